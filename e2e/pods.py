#!/usr/bin/env python3
"""The pods of a ShardCluster as processes of this machine: what kubelets would do, where there are none.

    e2e/pods.py NAME --model FILE [--namespace NAMESPACE] [--programs FOLDER] [--image IMAGE=FOLDER]...

Each pod of the ShardCluster runs its own program with its own arguments, keys and probe; what is a path or a name inside a
cluster becomes one of this machine, and a built-in model the FILE. A pod whose image is IMAGE runs the programs of that
FOLDER, so that two releases can be tried against one another; all others those of --programs (target/debug). Gateways are at
127.0.0.2 and up, port 8080: the operator asks them there, so give it another port (operator run --listen 127.0.0.1:8090).
Needs kubectl and KUBECONFIG. It tells who starts, serves and ends, and ends all by Ctrl-C.
"""

import argparse
import base64
import itertools
import json
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.request

BOOTSTRAP_PORT = 23200
PODS = itertools.count(1)


def kubectl(*arguments):
    return subprocess.run(["kubectl", "-n", args.namespace, *arguments], capture_output=True, text=True)


def secret(name):
    data = json.loads(kubectl("get", "secret", name, "-o", "json").stdout)["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


class Pod:
    """A pod, and the process that stands for it."""

    def __init__(self, pod):
        self.name, self.ready, self.is_over = pod["metadata"]["name"], None, False
        container = pod["spec"]["containers"][0]
        number, self.image = next(PODS), container["image"]
        part = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        self.ip = f"127.0.0.{1 + number}" if part == "gateway" else "127.0.0.1"
        ordinal = int(self.name.rsplit("-", 1)[1]) if part == "bootstrap" else None
        ports = {"port": 23300 + number, "diagnostics-port": 24300 + number, "http-port": 8080}
        if part == "bootstrap":
            ports["port"] = BOOTSTRAP_PORT + ordinal
        probe = container["readinessProbe"]["httpGet"]
        port = ports["http-port" if probe["port"] == "http" else "diagnostics-port"]
        self.url = f"http://{self.ip}:{port}{probe['path']}"
        command = [str(folders.get(self.image, args.programs) / container["command"][0]), f"--listen-addr={self.ip}"]
        command += [f"--{flag}{self.value(flag, value, ports)}" for flag, value in map(split, container["args"])]
        variables = {"LLAMA_INCARNATION": pod["metadata"]["uid"]} if part == "bootstrap" else {}
        self.log = work / f"{self.name}-{number}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
        self.tell("starts")

    def value(self, flag, value, ports):
        """What a flag says on this machine; empty for a switch."""
        if value is None:
            return ""
        if flag in ports:
            value = ports[flag]
        elif flag == "bootstrap":
            host = value.split(".")[0]
            value = f"127.0.0.1:{BOOTSTRAP_PORT + int(host.rsplit('-', 1)[1])}"
        elif flag == "shards-dir":
            value = work / "volumes" / self.name
        elif flag == "model-source" and not value.startswith(("http", "hf:")):
            value = args.model.resolve()
        elif flag == "identity-file":
            value = keep(f"identity-{self.name}", secret(f"{args.name}-identities")[self.name])
        elif flag in ("cluster-secret-file", "operator-key-file"):
            kind = flag.removesuffix("-file")
            value = keep(kind, secret(f"{args.name}-{kind}")[kind])
        return f"={value}"

    def tell(self, what):
        print(time.strftime("%T"), self.name, what, self.image, flush=True)

    def look(self):
        """Whether it serves, as the API server is to know it. What ends by itself is not started again."""
        if not self.is_over and self.process.poll() is not None:
            self.is_over = True
            self.tell(f"ended by itself, {self.process.returncode}: {self.log.read_text()[-2000:]}")
        try:
            ready = urllib.request.urlopen(self.url, timeout=1).status == 200
        except OSError:
            ready = False
        if ready == self.ready:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        status = {"phase": "Running", "podIP": self.ip, "podIPs": [{"ip": self.ip}], "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": now},
        ]}
        patched = kubectl("patch", "pod", self.name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        if patched.returncode == 0:
            self.ready = ready
            self.tell("serves" if ready else "does not serve")

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.tell("ended")


def split(argument):
    flag, _, value = argument.removeprefix("--").partition("=")
    return flag, value if "=" in argument else None


def keep(name, data):
    path = work / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def folder(text):
    image, _, path = text.rpartition("=")
    return image, pathlib.Path(path).resolve()


def watch():
    running = {}
    try:
        while True:
            found = kubectl("get", "pod", "-l", f"app.kubernetes.io/instance={args.name}", "-o", "json")
            time.sleep(0.3)
            if found.returncode != 0:
                continue
            pods = {pod["metadata"]["uid"]: pod for pod in json.loads(found.stdout)["items"]}
            # A name that comes back has the ports and the folder of the one before.
            for uid in [uid for uid in running if uid not in pods or "deletionTimestamp" in pods[uid]["metadata"]]:
                running.pop(uid).end()
            for uid, pod in pods.items():
                if "deletionTimestamp" not in pod["metadata"]:
                    if uid not in running:
                        running[uid] = Pod(pod)
                    running[uid].look()
    finally:
        for pod in running.values():
            pod.end()


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("name", help="the ShardCluster")
parser.add_argument("--namespace", default="default")
parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file in place of a built-in model")
parser.add_argument("--programs", type=lambda text: pathlib.Path(text).resolve(), default="target/debug")
parser.add_argument("--image", type=folder, action="append", default=[], help="IMAGE=FOLDER with its programs")
args = parser.parse_args()
folders = dict(args.image)
signal.signal(signal.SIGTERM, signal.default_int_handler)
with tempfile.TemporaryDirectory() as kept:
    work = pathlib.Path(kept)
    try:
        watch()
    except KeyboardInterrupt:
        pass
