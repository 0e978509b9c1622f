"""Wording check: list phrases that have a plainer form, with the form to use instead.

Usage: python .ci/wording.py [PATH ...]

Without paths, every tracked or new Python, Markdown, HTML, TOML and YAML file and the Makefile are read. Each hit is
printed as `file:line: phrase -> use instead`; the exit code is 1 if there is one. Phrases are found across line breaks,
also in comments. Only phrases that have no other use in this repository are listed; the rest is left to review.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
EXEMPT = {".ci/wording.py", "tests/docs/test_wording.py"}
PATTERNS = ("*.py", "*.md", "*.html", "*.toml", "*.yml", "*.yaml", "Makefile")

KINDS = (
    "bundle|labels?|numbers?|texts?|names?|model|JSON|checkpoint|int|int8|integer|token|tokenizer"
    "|run|rows?|files?|folder|UTF-8|mask|terminal|endpoint|key|device|command|tensor|signature|server|pair|loss|metric"
    "|matrix|module|format|frame|GPU|corpus|character|password|version|classifier|encoder|engine|plan|contender|column"
    "|review|Unicode|evidence|list|mapping|string|float|link|table|graph|archive|port|host|URL"
)
"""Nouns for which "X is no bundle" stands for "X is not a bundle"."""

PHRASES = {
    r"(gone|going|goes|go|went) on with": "resumed, continued",
    r"begun with": "started",
    r"anew": "again, or re- as in re-exported",
    r"sets? aside|setting aside": "held out (rows), ignored (a rule)",
    r"without end": "of any length, unbounded, endless",
    r"(how to|and|both|they) go on|(goes|went) on where|(run|command|training|it|job) goes on": "resume",
    r"for ever": "forever",
    r"nobody (said|knows)": "unlabelled, unknown",
    r"otherwise than": "differently from, other ... than",
    r"speaks? of": "mentions, is about",
    r"told apart": "distinguished",
    r"what becomes of": "what happens to",
    r"in company": "in a batch with others, batch-invariant",
    r"among others": "in a batch with others, batch-invariant",
    r"once more": "again; a second copy (of the weights)",
    r"hang(s|ing)? on": "depend(s) on",
    r"(has|have|had|gives?|gave) (it|them) not": "not found, does not have, access denied",
    r"(held|hold|holds|holding) ((it|them|each|every \w+|all) )?against": "compared with",
    r"doubts": "warnings, sanity checks",
    r"judg(e|es|ed|ing)(?!_texts_not_in_corpus)": "evaluate, score, compare",  # but for a field of the manifest
    r"by which (it|they|one|each)": "a second sentence, or 'that ... uses'",
    r"of which [^.;:]{0,60}? by which": "two sentences",
    r"sold for": "traded off",
    r"(told|telling|tells) by lines": "JSON lines on stdin or stdout",
    r"says that (it|one) lives": "liveness probe",
    r"(texts?|rows?|they|that) (says?|said) the same": "near-duplicates",
    r"in \d+ of 100 repetitions": "95 % confidence interval",
    r"turn(s|ed|ing)? (requests|it|them|the rest|others) away|turned away": "load shedding: reject",
    r"whole or not at all": "atomic write",
    r"knows English best": "trained mainly on English text",
    r"what is to be done, written down": "the job specification",
    r"for who": "because ..., for the caller that",
    r"whoever": "the caller, the client, anyone who",
    r"knows? nothing (of|about)": "is independent of, does not depend on",
    r"in two halves until it fits": "split on out-of-memory",
    r"(there )?(is|are|was|were|be) no (" + KINDS + r")": "is not a ...",
    r"at unawares|of a sudden|withal|lest|whence|wherein|whereby|thereof|therein|aught|naught": "modern English",
}
"""What to avoid, as a regular expression with one space where white space may stand -> what to write."""

SPACE = r"(?:[ \t]+|[ \t]*\n[ \t]*(?:[#>*]+[ \t]*)?)"


class Hit(NamedTuple):
    """One phrase at its place."""

    path: str
    line: int
    phrase: str
    instead: str

    def __str__(self) -> str:
        """Return the hit as compilers print theirs."""
        return f"{self.path}:{self.line}: {self.phrase} -> {self.instead}"


def compile_phrase(phrase: str) -> re.Pattern[str]:
    r"""Return the pattern that finds a phrase as whole words, whatever white space separates them.

    >>> bool(compile_phrase("in company").search("alone and in\n    # company"))
    True
    >>> bool(compile_phrase("in company").search("in companyx"))
    False
    """
    return re.compile(rf"(?<![A-Za-z])(?:{phrase.replace(' ', SPACE)})(?![A-Za-z])", re.I)


COMPILED = {compile_phrase(phrase): instead for phrase, instead in PHRASES.items()}


def find_hits(path: str, text: str) -> Iterator[Hit]:
    """Yield every phrase of a file's text, in the order of the phrases.

    >>> [hit.phrase for hit in find_hits("a.md", "The result hangs on the seed.")]
    ['hangs on']
    """
    for pattern, instead in COMPILED.items():
        for match in pattern.finditer(text):
            if not match.group().lower().startswith("there"):  # "there is no bundle" is plain
                line = text.count("\n", 0, match.start()) + 1
                yield Hit(path, line, re.sub(SPACE, " ", match.group()), instead)


def list_files() -> list[str]:
    """Return the tracked and the new files that are checked, as paths below the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PATTERNS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(each for each in set(listed.splitlines()) - EXEMPT if (ROOT / each).is_file())


def main(arguments: Sequence[str]) -> int:
    """Print every hit in the named files or folders, or in all, and return 1 if there is one."""
    below = tuple(Path(each).as_posix().rstrip("/") for each in arguments)
    chosen = [
        path
        for path in list_files()
        if not below or path in below or path.startswith(tuple(f"{one}/" for one in below))
    ]
    hits = [hit for path in chosen for hit in find_hits(path, (ROOT / path).read_text(encoding="utf-8"))]
    print("\n".join(map(str, sorted(hits))), end="\n" if hits else "")
    print(f"{len(hits)} phrases to reword in {len(chosen)} files.", file=sys.stderr)
    return bool(hits)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
