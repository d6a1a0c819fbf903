"""Checks what is in this folder with the libraries of those who read it: Grafana's types, Kubernetes' schemas."""

import json
import pathlib
import subprocess
import sys

import kubernetes_validate
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

HERE = pathlib.Path(__file__).parent
KUBERNETES = "1.30"


def fail(what):
    sys.exit(f"{what}")


def dashboard():
    saved = (HERE / "grafana/pingtrace.json").read_text()
    made = subprocess.run([sys.executable, HERE / "grafana/dashboard.py"], check=True, capture_output=True, text=True)
    if made.stdout != saved:
        fail("grafana/pingtrace.json is not what dashboard.py writes: scripts/dist/check.sh --write")
    # Nothing is lost on the way through Grafana's types, so each field has a place there.
    again = JSONEncoder(sort_keys=True, indent=2).encode(Dashboard.from_json(json.loads(saved)))
    if json.loads(again) != json.loads(saved):
        fail("grafana/pingtrace.json has fields that Grafana's types do not have")
    expressions(json.loads(saved))


def expressions(board):
    """As rules, for promtool, with Grafana's variables replaced."""
    rules = []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$target", ".*")
            rules.append({"record": f"panel:{len(rules)}", "expr": expr})
    if len(rules) < 20:
        fail("the dashboard has hardly any queries")
    pathlib.Path(sys.argv[1]).write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))


def kubernetes():
    documents = list(yaml.safe_load_all((HERE / "kubernetes/pingtrace.yaml").read_text()))
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    kinds = [document["kind"] for document in documents]
    if kinds != ["Namespace", "ConfigMap", "Service", "DaemonSet"]:
        fail(f"kubernetes/pingtrace.yaml has {kinds}")
    pod = documents[3]["spec"]["template"]["spec"]
    context = pod["containers"][0]["securityContext"]
    unit = (HERE / "pingtrace-agent.service").read_text().splitlines()
    given = next(line for line in unit if line.startswith("CapabilityBoundingSet="))
    given = given.removeprefix("CapabilityBoundingSet=").replace("CAP_", "").split()
    if context["capabilities"] != {"drop": ["ALL"], "add": given}:
        fail("the DaemonSet and pingtrace-agent.service have other capabilities")
    wanted = {"privileged": False, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
    if not wanted.items() <= context.items() or any("hostPath" in volume for volume in pod["volumes"]):
        fail("the DaemonSet may do too much")
    labels = documents[3]["spec"]["template"]["metadata"]["labels"]
    if not documents[2]["spec"]["selector"].items() <= labels.items():
        fail("the Service selects no pod of the DaemonSet")


dashboard()
kubernetes()
