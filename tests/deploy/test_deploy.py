"""The files in `deploy/` match the server's options, routes and metrics, and each other."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.helpers.serving import serving

yaml = pytest.importorskip("yaml")
pytest.importorskip("uvicorn")
ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def documents(name: str) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / name).read_text())}


def arguments() -> Iterator[tuple[str, list[str]]]:
    """Yield each file that starts the server, and the arguments it passes."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    yield "Dockerfile", json.loads(re.findall(r"^CMD (\[.*\])", dockerfile, re.MULTILINE)[-1])
    (pod,) = documents("kubernetes.yaml")["Deployment"]["spec"]["template"]["spec"]["containers"]
    yield "kubernetes.yaml", pod["args"]
    (container,) = documents("kserve.yaml")["ServingRuntime"]["spec"]["containers"]
    yield "kserve.yaml", container["args"]
    unit = (DEPLOY / "manylabel.service").read_text()
    yield "manylabel.service", re.findall(r"^ExecStart=\S+ serve (.*)", unit, re.MULTILINE)[0].split()


@pytest.mark.parametrize(("name", "args"), list(arguments()), ids=lambda value: value if isinstance(value, str) else "")
def test_server_accepts_the_deployed_arguments(name: str, args: list[str], tmp_path: Path) -> None:
    rendered = [each.replace("{{.Name}}", "reviews") for each in args[1:]]  # as KServe renders it
    command = [sys.executable, "-m", "manylabel", "serve", str(tmp_path / "none"), *rendered, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"there is no bundle at {tmp_path / 'none'}" in done.stderr  # so all options were parsed


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    with serving(bundle, "--name", "tiny") as started:
        yield started


def get(url: str) -> tuple[int, str]:
    with urlopen(url, timeout=30) as response:
        return response.status, response.read().decode()


def test_every_probed_path_responds(url: str) -> None:
    paths = set()
    for name in ("Dockerfile", "kubernetes.yaml", "kserve.yaml"):
        paths |= set(re.findall(r"/v2/health/\w+|/metrics", (DEPLOY / name).read_text()))
    assert paths == {"/v2/health/live", "/v2/health/ready", "/metrics"}
    for path in paths:
        assert get(url + path)[0] == 200


def test_dashboard_queries_existing_metrics(url: str) -> None:
    body = json.dumps({"inputs": ["the parcel was late"]}).encode()
    with urlopen(Request(f"{url}/v1/classify", body, {"Content-Type": "application/json"}), timeout=30):
        pass
    metrics = get(f"{url}/metrics")[1]
    names = set(re.findall(r"^(\w+)(?:\{| )", metrics, re.MULTILINE)) | set(
        re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE)
    )
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queried = {name for query in queries for name in re.findall(r"\b(?:manylabel|process)_\w+", query)}
    assert len(queries) >= 12
    assert queried <= names
    for query in queries:
        for labels in re.findall(r"by \((.*?)\)", query):
            for label in set(labels.split(", ")) - {"le", "reason"}:
                assert f'{label}="' in metrics


def test_dashboard_can_be_imported_by_grafana() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    assert dashboard["schemaVersion"] >= 36
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    assert len({(box["x"], box["y"]) for box in boxes}) == len(boxes)
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"


def test_images_run_rootless_and_read_only() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)", dockerfile, re.MULTILINE) == ["65532:65532"]
    for target in ("cpu", "cuda"):
        assert f"FROM base AS {target}\n" in dockerfile
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())
    pod = documents("kubernetes.yaml")["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in (*pod["containers"], *documents("kserve.yaml")["ServingRuntime"]["spec"]["containers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]


def test_kubernetes_names_and_ports_match() -> None:
    manifests = documents("kubernetes.yaml")
    template = manifests["Deployment"]["spec"]["template"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert manifests["Service"]["spec"]["selector"] == template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert str(container["ports"][0]["containerPort"]) in container["args"]
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in template["spec"]["volumes"]
    }
    service, runtime = (documents("kserve.yaml")[kind]["spec"] for kind in ("InferenceService", "ServingRuntime"))
    assert service["predictor"]["model"]["protocolVersion"] in runtime["protocolVersions"]
    assert service["predictor"]["model"]["modelFormat"]["name"] == runtime["supportedModelFormats"][0]["name"]


def test_dockerfile_passes_hadolint() -> None:
    linter = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(linter).exists():
        pytest.skip("needs hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    program = tmp_path / "manylabel"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = (DEPLOY / "manylabel.service").read_text().replace("/opt/manylabel/bin/manylabel", str(program))
    (tmp_path / "manylabel.service").write_text(unit)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / "manylabel.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    warnings = [line for line in done.stderr.splitlines() if "manylabel" in line]
    assert warnings == []
