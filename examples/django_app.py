"""A classifier inside Django, in one file. Needs `pip install "manylabel[cpu]" django`.

BUNDLE=build/demo/bundle python examples/django_app.py runserver
curl -d 'text=Great fabric, rude courier.' http://127.0.0.1:8000/labels
"""

import os
from functools import cache

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from manylabel import Classifier

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
)


@cache
def classifier() -> Classifier:
    """Load at the first request of a process, so after any fork: gunicorn may --preload this module."""
    return Classifier.load(os.environ["BUNDLE"])


@csrf_exempt  # an API without sessions
@require_POST
def labels(request: HttpRequest) -> JsonResponse:
    """Return the labels and scores of one text."""
    (prediction,) = classifier().classify(request.POST.get("text", ""))
    return JsonResponse({"labels": prediction.labels, "scores": prediction.scores})


urlpatterns = [path("labels", labels)]

if __name__ == "__main__":
    execute_from_command_line()
else:
    django.setup()
    application = get_wsgi_application()  # gunicorn --chdir examples django_app
