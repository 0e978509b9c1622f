"""The server: `manylabel serve BUNDLE`. Needs the extra `server`.

In reading order: `schemas` says what goes over the wire, `settings` what can be set, `engine` answers texts, `routes`
turn requests into texts and answers into responses, `app` puts them together, `serving` runs it.
"""
