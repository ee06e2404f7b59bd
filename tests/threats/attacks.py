"""The table of attacks: what a user of the Docker API can do to the host, to others and to the record.

A new way in gets a row here first. Words in braces are the stage's (see `Stage._make`): {BOB} is the ID of another
developer's container, {OWN} the attacker's own, {MADE} the ID that the attacker's last request was answered with.
"""

# ruff: noqa: E501  # one row, one line
from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.support.belongings import OWNER, tar
from tests.threats.stage import FILE, OUTPUT, SECRET, Ask, Attack, Docker, Raw, Stage, Step

Judge = Callable[[Stage], object]
CREATE = "/containers/create"
FORM = "application/x-www-form-urlencoded"


def wish(host: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    return {"Image": "busybox", "Cmd": ["sleep", "600"], **top, "HostConfig": host or {}}


def made(holds: Callable[[Any], object]) -> Judge:
    """Judge by the containers that are new."""
    return lambda stage: any(holds(container) for container in stage.made)


def host(holds: Callable[[Any], object]) -> Judge:
    """Judge by the HostConfig of the containers that are new."""
    return made(lambda container: holds(container["HostConfig"]))


def has(key: str, value: object) -> Judge:
    return host(lambda config: config.get(key) == value)


def create(name: str, threat: str, judge: Judge, config: dict[str, Any], *, engine: str = "28", **top: Any) -> Attack:
    return Attack(name, threat, [Ask("POST", CREATE, wish(config, **top))], judge, engine)


def run(name: str, threat: str, judge: Judge, config: dict[str, Any], *, engine: str = "28", **top: Any) -> Attack:
    steps: list[Step] = [Ask("POST", CREATE, wish(config, **top)), Ask("POST", "/containers/{MADE}/start")]
    return Attack(name, threat, steps, judge, engine)


def ask(name: str, threat: str, judge: Judge, *steps: Ask | Raw | Docker, engine: str = "28") -> Attack:
    return Attack(name, threat, list(steps), judge, engine)


def waiting(most: int) -> Judge:
    """Judge by the execs that wait in a new container."""
    return made(lambda container: len(container["ExecIDs"] or []) > most)


WAITS = Ask("POST", CREATE + "?name=waits", wish()), Ask("POST", "/containers/waits/start")
OFTEN = made(lambda container: (container["Config"].get("Healthcheck") or {}).get("Interval") == 1_000_000)


def told(*words: str) -> Judge:
    """Judge by what the attacker was answered."""
    return lambda stage: any(stage.learned(word) for word in words)


def gone(kind: str, word: str) -> Judge:
    """Judge by something of Bob's that is no longer there."""
    return lambda stage: stage.word(word) not in stage.state()[1][kind]


def changed(kind: str, word: str) -> Judge:
    """Judge by something of Bob's that is no longer as it was."""
    return lambda stage: stage.state()[0][kind][stage.word(word)] != stage.state()[1][kind].get(stage.word(word))


def tagged(name: str) -> Judge:
    """Judge by an image of this name."""
    return lambda stage: stage.inspect(f"/images/{name}/json")


def labelled(path: str, label: str = OWNER, value: str = "{BOBUID}") -> Judge:
    """Judge by a label that only sockproxy may write."""

    def judge(stage: Stage) -> bool:
        found = stage.inspect(path) or {}
        labels = (found.get("Config") or found).get("Labels") or {}
        return labels.get(label) == stage._fill(value)

    return judge


def mounted(holds: Callable[[Any], object]) -> Judge:
    return made(lambda container: any(holds(mount) for mount in container["Mounts"]))


def from_host(path: str) -> Judge:
    return mounted(lambda mount: mount["Type"] == "bind" and mount["Source"] == path)


def bobs_volume(stage: Stage) -> object:
    return mounted(lambda mount: mount.get("Name") == "bobs-data")(stage)


def nobodys_volume(stage: Stage) -> object:
    """Judge by a new volume without a label."""
    before, now = (state["volumes"] for state in stage.state())
    return any(not labels for name, labels in now.items() if name not in before)


def on_network(name: str) -> Judge:
    return made(lambda container: name in container["NetworkSettings"]["Networks"])


def stray(stage: Stage) -> object:
    """Judge by bridges of the host's that are no networks; they are removed."""
    known = {"br-" + str(item["Id"])[:12] for item in stage.root.get("GET", "/networks")}
    found = set(re.findall(r"br-[0-9a-f]{12}", stage.on_host("ip", "-o", "link"))) - known
    for bridge in found:
        stage.on_host("ip", "link", "delete", bridge)
    return found


def capability(name: str) -> Judge:
    return host(lambda config: any(name in added.upper() for added in config["CapAdd"] or []))


def privileged(stage: Stage) -> object:
    return has("Privileged", True)(stage)


def listed(*names: str) -> Judge:
    return told(*(f'"Names":["/{name}"]' for name in names))


def raw_json(text: str, kind: str = "application/json", target: str = CREATE) -> Ask:
    return Ask("POST", target, text, kind)


def http(method: str, target: str, *fields: str, body: str = "", version: str = "1.1") -> str:
    head = [f"{method} {target} HTTP/{version}", "Host: d", *fields]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]) + body


PRIVILEGED = '{"Image":"busybox","Cmd":["true"],"HostConfig":{"Privileged":true}}'
HIDDEN = http("POST", CREATE, "Connection: close", body=PRIVILEGED)  # the second request, behind another


def image_archive(tag: str) -> bytes:
    """Form an archive of one image that says it is called so."""
    layer = tar(evil="evil")
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    )
    manifest = json.dumps([{"Config": "c.json", "RepoTags": [tag], "Layers": ["l.tar"]}])
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in (("c.json", config.encode()), ("manifest.json", manifest.encode()), ("l.tar", layer)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def packed(**fields: Any) -> bytes:
    """Pack one member that is no file."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        entry = tarfile.TarInfo()
        for key, value in fields.items():
            setattr(entry, key, value)
        archive.addfile(entry)
    return held.getvalue()


def disk(name: str) -> bytes:
    """Form an archive of a device that is open to all: one of the host's disks."""
    return packed(name=name, type=tarfile.BLKTYPE, mode=0o666, devmajor=7, devminor=0)


def upload(target: str, archive: bytes) -> Raw:
    head = http(
        "POST", target, "Connection: close", "Content-Type: application/x-tar", f"Content-Length: {len(archive)}"
    )
    return Raw(head + archive.decode("latin-1"))


PIPED_BUILD = packed(name=".dockerignore", type=tarfile.FIFOTYPE)[:512] + tar(Dockerfile="FROM busybox\n")
PIPED_IMAGE = packed(name="c.json", type=tarfile.FIFOTYPE)[:512] + image_archive("piped:1")[1024:]


def steal(text: str) -> bytes:
    return tar(Dockerfile=text)


MORE_RIGHTS = "create: more rights than a process of one's own has"
ROWS_RIGHTS = [
    create("privileged", MORE_RIGHTS, privileged, {"Privileged": True}),
    create("capability", MORE_RIGHTS, capability("SYS_ADMIN"), {"CapAdd": ["SYS_ADMIN"]}),
    create("capability with its prefix, in small letters", MORE_RIGHTS, capability("SYS_PTRACE"), {"CapAdd": ["cap_sys_ptrace"]}),
    create("capabilities as a string", MORE_RIGHTS, capability("ALL"), {"CapAdd": "ALL"}),
    create("all capabilities in small letters", MORE_RIGHTS, capability("ALL"), {"CapAdd": ["all"]}),
    create("device nodes by default", MORE_RIGHTS, host(lambda config: "MKNOD" not in (config["CapDrop"] or [])), {}),
    create("file capabilities by default", MORE_RIGHTS, host(lambda config: "SETFCAP" not in (config["CapDrop"] or [])), {}),
    create("device nodes again", MORE_RIGHTS, capability("MKNOD"), {"CapAdd": ["CAP_MKNOD"]}),
    create("device", MORE_RIGHTS, host(lambda config: config["Devices"]), {"Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]}),
    create("device request", MORE_RIGHTS, host(lambda config: config["DeviceRequests"]), {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=a"]}]}),
    create("device request by capability", MORE_RIGHTS, host(lambda config: config["DeviceRequests"]), {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
    create("device cgroup rule", MORE_RIGHTS, host(lambda config: config["DeviceCgroupRules"]), {"DeviceCgroupRules": ["b *:* rwm"]}),
    create("seccomp off", MORE_RIGHTS, has("SecurityOpt", ["seccomp=unconfined"]), {"SecurityOpt": ["seccomp=unconfined"]}),
    create("seccomp of one's own", MORE_RIGHTS, host(lambda config: "ALLOW" in str(config["SecurityOpt"])), {"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']}),
    create("seccomp off, in the old syntax", MORE_RIGHTS, host(lambda config: "seccomp:unconfined" in (config["SecurityOpt"] or [])), {"SecurityOpt": ["seccomp:unconfined"]}, engine="20"),
    create("AppArmor off", MORE_RIGHTS, has("SecurityOpt", ["apparmor=unconfined"]), {"SecurityOpt": ["apparmor=unconfined"]}),
    create("SELinux off", MORE_RIGHTS, has("SecurityOpt", ["label=disable"]), {"SecurityOpt": ["label=disable"]}),
    create("new privileges by default", MORE_RIGHTS, host(lambda config: "no-new-privileges" not in (config["SecurityOpt"] or [])), {}),
    create("new privileges", MORE_RIGHTS, host(lambda config: "no-new-privileges=false" in (config["SecurityOpt"] or [])), {"SecurityOpt": ["no-new-privileges=false"]}),
    create("no read-only paths", MORE_RIGHTS, has("ReadonlyPaths", []), {"ReadonlyPaths": []}),
    create("other read-only paths", MORE_RIGHTS, has("ReadonlyPaths", ["/x"]), {"ReadonlyPaths": ["/x"]}),
    create("no masked paths", MORE_RIGHTS, has("MaskedPaths", []), {"MaskedPaths": []}),
    create("no masked paths, with the container's own words for it", MORE_RIGHTS, has("MaskedPaths", []), {"MaskedPaths": [], "SecurityOpt": ["no-new-privileges"]}),
    create("a sysctl of the kernel", MORE_RIGHTS, host(lambda config: config["Sysctls"]), {"Sysctls": {"kernel.shm_rmid_forced": "1"}}),
    create("another runtime", MORE_RIGHTS, has("Runtime", "io.containerd.runc.v2"), {"Runtime": "io.containerd.runc.v2"}),
    create("an annotation", MORE_RIGHTS, host(lambda config: config.get("Annotations")), {"Annotations": {"run.oci.hooks": "x"}}),
    create("the working directory is the runtime's open file", MORE_RIGHTS, made(lambda found: found["Config"]["WorkingDir"] == "/proc/self/fd/8"), {}, WorkingDir="/proc/self/fd/8"),
    ask("docker run --privileged", MORE_RIGHTS, privileged, Docker("run -d --privileged busybox true")),
    ask("docker run with systempaths=unconfined", MORE_RIGHTS, has("ReadonlyPaths", []), Docker("create --security-opt systempaths=unconfined busybox true")),
]  # fmt: skip

NAMESPACES = "create: namespaces of the host or of others"
ROWS_NAMESPACES = [
    create("host pids", NAMESPACES, has("PidMode", "host"), {"PidMode": "host"}),
    create("host ipc", NAMESPACES, has("IpcMode", "host"), {"IpcMode": "host"}),
    create("host network", NAMESPACES, has("NetworkMode", "host"), {"NetworkMode": "host"}),
    create("host name", NAMESPACES, has("UTSMode", "host"), {"UTSMode": "host"}),
    create("host users", NAMESPACES, has("UsernsMode", "host"), {"UsernsMode": "host"}),
    create("host cgroups", NAMESPACES, has("CgroupnsMode", "host"), {"CgroupnsMode": "host"}),
    *(
        create(f"another's {kind} namespace by {form}", NAMESPACES, host(lambda config, key=key: config[key].startswith("container:")), {key: f"container:{reference}"})
        for kind, key in (("pid", "PidMode"), ("ipc", "IpcMode"), ("network", "NetworkMode"))
        for form, reference in (("name", "bobs-db"), ("ID", "{BOB}"), ("prefix", "{BOB4}"))
    ),
]  # fmt: skip

LIMITS = "create and update: more of the host than one's share"
OVER = 1 << 45
ROWS_LIMITS = [
    create("no memory limit", LIMITS, has("Memory", 0), {}),
    create("no pids limit", LIMITS, host(lambda config: (config["PidsLimit"] or 0) <= 0), {}),
    create("memory far above", LIMITS, has("Memory", OVER), {"Memory": OVER}),
    create("endless swap", LIMITS, has("MemorySwap", -1), {"Memory": 64 << 20, "MemorySwap": -1}),
    create("endless pids", LIMITS, host(lambda config: (config["PidsLimit"] or 0) <= 0), {"PidsLimit": -1}),
    create("shared memory far above", LIMITS, has("ShmSize", OVER), {"ShmSize": OVER}),
    create("CPU quota without end", LIMITS, has("CpuQuota", 900_000_000), {"CpuPeriod": 1000, "CpuQuota": 900_000_000}),
    create("spared by the OOM killer", LIMITS, has("OomScoreAdj", -1000), {"OomScoreAdj": -1000}),
    create("hanging at the limit", LIMITS, has("OomKillDisable", True), {"OomKillDisable": True, "Memory": 64 << 20}),
    # Judged by what the daemon takes: this machine's root may not give realtime priorities.
    create("realtime threads by a ulimit", LIMITS, host(lambda config: config["Ulimits"]), {"Ulimits": [{"Name": "rtprio", "Soft": 99, "Hard": 99}]}),
    create("realtime threads by a ulimit, in capitals", LIMITS, host(lambda config: config["Ulimits"]), {"Ulimits": [{"Name": "RTPRIO", "Soft": 99, "Hard": 99}]}),
    create("another cgroup", LIMITS, has("CgroupParent", "/evil"), {"CgroupParent": "/evil"}),
    create("a systemd unit's properties by the cgroup", LIMITS, host(lambda config: config["CgroupParent"]), {"CgroupParent": "/x:y:z"}),
    create("reads of a device", LIMITS, host(lambda config: config["BlkioDeviceReadBps"]), {"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]}),
    create("a log that waits in the daemon's memory", LIMITS, host(lambda config: "20g" in str(config["LogConfig"])), {"LogConfig": {"Type": "json-file", "Config": {"mode": "non-blocking", "max-buffer-size": "20g"}}}),
    create("a log's tag as long as the machine has memory", LIMITS, host(lambda config: "pad" in str(config["LogConfig"])), {"LogConfig": {"Type": "json-file", "Config": {"tag": '{{pad "x" 90000000000 0}}'}}}),
    create("a log's tag that is written for ever", LIMITS, host(lambda config: "define" in str(config["LogConfig"])), {"LogConfig": {"Config": {"tag": '{{define "a"}}{{range .ContainerEnv}}{{template "a" $}}{{end}}{{end}}'}}}),
    create("a log's labels by an expression that takes the daemon long", LIMITS, host(lambda config: "1000" in str(config["LogConfig"])), {"LogConfig": {"Config": {"labels-regex": "x{1000}" * 9}}}),
    *(ask(f"{kind} by expressions that the daemon compiles for each of them", LIMITS, lambda stage: stage.answers[0] == b"[]\n", Ask("GET", f"/{kind}/json?all=1&filters={expression}" if kind == "containers" else f"/{kind}?filters={expression}")) for kind, expression in (("containers", '{"name":["' + "x{1000}" * 9 + '"]}'), ("networks", '{"id":["' + "xy" * 9999 + '"]}'))),
    # What is not answered keeps a thread of the daemon's for good, and it ends when it has 10,000.
    *(Attack(f"a thread of the daemon's, by a pipe as {what}", LIMITS, [upload(target, members)], lambda stage: not stage.answers) for what, target, members in (("a build's ignore file", "/build", PIPED_BUILD), ("an image's configuration", "/images/load", PIPED_IMAGE))),
    ask("a network whose description fills everybody's lists", LIMITS, lambda stage: len(str(stage.inspect("/networks/evil"))) > 1 << 20, Ask("POST", "/networks/create", {"Name": "evil", "Labels": {"k": "x" * (1 << 20)}})),
    ask("the same with a volume", LIMITS, lambda stage: len(str(stage.inspect("/volumes/evil"))) > 1 << 20, Ask("POST", "/volumes/create", {"Name": "evil", "Labels": {"k": "x" * (1 << 20)}})),
    create("a container that the daemon waits for without end", LIMITS, made(lambda container: container["Config"].get("StopTimeout") == -1), {}, StopTimeout=-1),
    create("a probe each millisecond", LIMITS, OFTEN, {}, Healthcheck={"Test": ["CMD", "true"], "Interval": 1_000_000}),
    create("a probe each millisecond at the start", LIMITS, made(lambda container: container["Config"]["Healthcheck"]["StartInterval"] == 1_000_000), {}, Healthcheck={"Test": ["CMD", "true"], "StartPeriod": 10**12, "StartInterval": 1_000_000}),
    ask("a probe each millisecond that an image brings", LIMITS, OFTEN, Ask("POST", "/commit?container={OWN}&repo=often&pause=0", {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000}}), Ask("POST", CREATE, {**wish(), "Image": "often"})),
    ask("an exec whose description stays in the daemon", LIMITS, waiting(0), *WAITS, Ask("POST", "/containers/waits/exec", {"Cmd": ["true"], "Env": ["k=" + "x" * 900_000]})),
    ask("execs that are never started", LIMITS, waiting(200), *WAITS, *[Ask("POST", "/containers/waits/exec", {"Cmd": ["true"]})] * 201),
    ask("memory lifted by an update", LIMITS, lambda stage: stage.inspect("/containers/{OWN}/json")["HostConfig"]["Memory"] == OVER, Ask("POST", "/containers/{OWN}/update", {"Memory": OVER, "MemorySwap": OVER})),
    ask("pids lifted by an update", LIMITS, lambda stage: (stage.inspect("/containers/{OWN}/json")["HostConfig"]["PidsLimit"] or 0) <= 0, Ask("POST", "/containers/{OWN}/update", {"PidsLimit": -1})),
    ask("docker update", LIMITS, lambda stage: (stage.inspect("/containers/{OWN}/json")["HostConfig"]["PidsLimit"] or 0) <= 0, Docker("update --pids-limit -1 alices-app")),
]  # fmt: skip

FILES = "create: the host's files"
ROWS_FILES = [
    create("bind of the root", FILES, from_host("/"), {"Binds": ["/:/h"]}),
    create("read-only bind", FILES, from_host("/etc"), {"Binds": ["/etc:/h:ro"]}),
    create("bind that climbs", FILES, from_host("/etc"), {"Binds": ["/home/../etc:/h"]}),
    create("bind as a mount", FILES, from_host("/etc"), {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/h"}]}),
    create("bind of the daemon's socket", FILES, from_host("/run"), {"Binds": ["/run:/h"]}),
    create("bind by volumes-from", FILES, bobs_volume, {"VolumesFrom": ["bobs-db"]}),
    create("bind by volumes-from, read-only", FILES, bobs_volume, {"VolumesFrom": ["{BOB12}:ro"]}),
    run("a folder of root's is made", FILES, lambda stage: stage.on_host("ls", stage._fill("{FOLDER}")).find("made-by-create") >= 0, {"Mounts": [{"Type": "bind", "Source": "{FOLDER}/made-by-create", "Target": "/h", "BindOptions": {"CreateMountpoint": True}}]}),
    create("mounts shared with the host", FILES, host(lambda config: "rshared" in str(config["Mounts"])), {"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/h", "BindOptions": {"Propagation": "rshared"}}]}),
    create("options of a volume's driver, inline", FILES, lambda stage: "/etc" in str((stage.inspect("/volumes/evil") or {}).get("Options")), {"Mounts": [{"Type": "volume", "Source": "evil", "Target": "/h", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/etc"}}}}]}),
    create("the same without a name", FILES, host(lambda config: "/etc" in str(config["Mounts"])), {"Mounts": [{"Type": "volume", "Target": "/h", "VolumeOptions": {"DriverConfig": {"Options": {"type": "none", "o": "rbind", "device": "/etc"}}}}]}),
    run("a connection to root's socket by the syslog driver", FILES, lambda stage: stage.socket_hit(), {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "unix://{SOCKET}"}}}),
    create("datagrams to the host's own services by the gelf driver", FILES, host(lambda config: config["LogConfig"]["Type"] == "gelf"), {"LogConfig": {"Type": "gelf", "Config": {"gelf-address": "udp://127.0.0.1:12201"}}}),
    run("a connection to root's socket by the fluentd driver", FILES, lambda stage: stage.socket_hit(), {"LogConfig": {"Type": "fluentd", "Config": {"fluentd-address": "unix://{SOCKET}"}}}),
    ask("docker run -v", FILES, from_host("/etc"), Docker("create -v /etc:/h busybox true")),
    ask("docker run --mount", FILES, from_host("/etc"), Docker("create --mount type=bind,source=/etc,target=/h busybox true")),
]  # fmt: skip

VOLUMES = "volumes: the host's files, and others' data"
ROWS_VOLUMES = [
    *(
        ask(f"a volume of {kind}", VOLUMES, lambda stage: (stage.inspect("/volumes/evil") or {}).get("Options"), Ask("POST", "/volumes/create", {"Name": "evil", "DriverOpts": options}))
        for kind, options in (
            ("a bind", {"type": "none", "o": "bind", "device": "/etc"}),
            ("a recursive bind", {"type": "none", "o": "rbind", "device": "/"}),
            ("the raw disk", {"type": "ext4", "device": "/dev/vda"}),
            ("an overlay", {"type": "overlay", "o": "lowerdir=/etc:/root", "device": "overlay"}),
            ("proc", {"type": "proc", "device": "proc"}),
            ("sysfs", {"type": "sysfs", "device": "sysfs"}),
            ("devices", {"type": "devtmpfs", "device": "devtmpfs"}),
            ("cgroups", {"type": "cgroup2", "device": "cgroup2"}),
            ("a memory file system", {"type": "tmpfs", "o": "size=100g", "device": "tmpfs"}),
        )
    ),
    ask("another's volume is given back by a create", VOLUMES, told("/bobs-data/_data"), Ask("POST", "/volumes/create", {"Name": "bobs-data"})),
    ask("another's volume inspected", VOLUMES, told("/bobs-data/_data"), Ask("GET", "/volumes/bobs-data")),
    ask("another's volume listed", VOLUMES, told("/bobs-data/_data"), Ask("GET", "/volumes")),
    ask("another's volume listed by a filter", VOLUMES, told("/bobs-data/_data"), Ask("GET", '/volumes?filters={"name":["bobs"]}')),
    create("another's volume", VOLUMES, bobs_volume, {"Binds": ["bobs-data:/x"]}),
    create("another's volume as a mount", VOLUMES, bobs_volume, {"Mounts": [{"Type": "volume", "Source": "bobs-data", "Target": "/x"}]}),
    create("another's volume in an older version", VOLUMES, bobs_volume, {"Binds": ["bobs-data:/x"]}, engine="20"),
    ask("a volume that is nobody's, by an image's relative path", VOLUMES, nobodys_volume, Ask("POST", "/commit?container={OWN}&repo=odd&pause=0&changes=VOLUME%20%5B%22odd%22%5D"), Ask("POST", CREATE, {**wish(), "Image": "odd"})),
    create("another's volume in a container without an image", VOLUMES, bobs_volume, {"Binds": ["bobs-data:/x"]}, Image=""),
    ask("the same without the field", VOLUMES, told(FILE), Ask("POST", CREATE, {"Cmd": ["x"], "HostConfig": {"Binds": ["bobs-data:/x"]}}), Ask("GET", "/containers/{MADE}/archive?path=/x")),
    ask("an unused volume of another's removed", VOLUMES, gone("volumes", "UNUSED"), Ask("DELETE", "/volumes/bobs-unused?force=1")),
]  # fmt: skip

NETWORKS = "networks: the host's routes, and others' containers"
ROWS_NETWORKS = [
    *(
        ask(f"the host's way to {address}", NETWORKS, lambda stage, address=address: "br-" in stage.on_host("ip", "route", "get", address), Ask("POST", "/networks/create", {"Name": "evil", "IPAM": {"Config": [{"Subnet": subnet}]}}))
        for address, subnet in (("8.8.8.8", "8.8.8.0/24"), ("169.254.169.254", "169.254.169.0/24"), ("1.2.3.4", "1.0.0.0/8"), ("10.99.1.1", "10.64.0.0/10"), ("10.98.1.1", "10.98.0.0/16"))
    ),
    ask("the host's way to its own network", NETWORKS, lambda stage: "br-" in stage.on_host("ip", "route", "get", "192.168.77.9"), Ask("POST", "/networks/create", {"Name": "evil", "IPAM": {"Config": [{"Subnet": "192.168.77.0/25"}]}})),
    ask("an interface of the host's", NETWORKS, lambda stage: stage.on_host("ip", "-o", "link", "show", "evil0"), Ask("POST", "/networks/create", {"Name": "evil", "Options": {"com.docker.network.bridge.name": "evil0"}})),
    ask("addresses of all interfaces", NETWORKS, lambda stage: stage.inspect("/networks/evil"), Ask("POST", "/networks/create", {"Name": "evil", "Options": {"com.docker.network.bridge.host_binding_ipv4": "192.0.2.2"}})),
    ask("a macvlan on the host's interface", NETWORKS, lambda stage: (stage.inspect("/networks/evil") or {}).get("Driver") == "macvlan", Ask("POST", "/networks/create", {"Name": "evil", "Driver": "macvlan", "Options": {"parent": "eth0"}})),
    ask("a bridge of the host's that is no network, and counts for nobody", NETWORKS, stray, Ask("POST", "/networks/create", {"Name": "evil", "Options": {"com.docker.network.driver.mtu": "1"}})),
    ask("a network that a swarm will take for its own", NETWORKS, lambda stage: stage.inspect("/networks/docker_gwbridge"), Ask("POST", "/networks/create", {"Name": "docker_gwbridge"})),
    ask("a network called as another's ID", NETWORKS, lambda stage: any(name == stage.word("NET") for name, _ in stage.state()[1]["networks"].values()), Ask("POST", "/networks/create", {"Name": "{NET}"}), engine="20"),
    ask("a second network of another's name, so that the name means nothing", NETWORKS, lambda stage: [name for name, _ in stage.state()[1]["networks"].values()].count("bobs-net") > 1, Ask("POST", "/networks/create", {"Name": "bobs-net"}), engine="20"),
    create("another's network", NETWORKS, on_network("bobs-net"), {"NetworkMode": "bobs-net"}),
    create("another's network by ID", NETWORKS, on_network("bobs-net"), {"NetworkMode": "{NET}"}),
    create("another's network as an endpoint", NETWORKS, on_network("bobs-net"), {}, NetworkingConfig={"EndpointsConfig": {"bobs-net": {}}}),
    run("another's network by an endpoint's NetworkID", NETWORKS, made(lambda found: "172." in str(found["NetworkSettings"]["Networks"]) and any(end["NetworkID"] == found["NetworkSettings"]["Networks"].get("bobs-net", end)["NetworkID"] and "bobs" in name for name, end in found["NetworkSettings"]["Networks"].items())), {"NetworkMode": "alices-net"}, NetworkingConfig={"EndpointsConfig": {"bobs-net": {"NetworkID": "{NET}"}}}),
    create("the bridge of all", NETWORKS, on_network("bridge"), {}),
    create("the bridge of all by ID", NETWORKS, on_network("bridge"), {"NetworkMode": "{BRIDGE}"}),
    create("the bridge of all by a prefix", NETWORKS, on_network("bridge"), {"NetworkMode": "{BRIDGE12}"}),
    run("the bridge of all as an endpoint by ID", NETWORKS, on_network("bridge"), {"NetworkMode": "alices-net"}, NetworkingConfig={"EndpointsConfig": {"{BRIDGE}": {}}}),
    create("the host's network by ID", NETWORKS, on_network("host"), {"NetworkMode": "{HOSTNET}"}),
    ask("a build on the bridge of all by ID", NETWORKS, told("172.17.0."), Ask("POST", "/build?nocache=1&networkmode={BRIDGE}", steal("FROM busybox\nRUN ip addr\n"))),
    ask("a build on the host's network", NETWORKS, told("docker0"), Ask("POST", "/build?nocache=1&networkmode=host", steal("FROM busybox\nRUN ip addr\n"))),
    ask("a build in another's network namespace", NETWORKS, told("Successfully built"), Ask("POST", "/build?nocache=1&networkmode=container:bobs-db", steal("FROM busybox\nRUN true\n"))),
    ask("joining another's network", NETWORKS, changed("networks", "NET"), Ask("POST", "/networks/bobs-net/connect", {"Container": "{OWN}"})),
    ask("joining the bridge of all", NETWORKS, lambda stage: "bridge" in stage.inspect("/containers/{OWN}/json")["NetworkSettings"]["Networks"], Ask("POST", "/networks/bridge/connect", {"Container": "{OWN}"})),
    ask("pulling another's container over", NETWORKS, changed("containers", "BOB"), Ask("POST", "/networks/alices-net/connect", {"Container": "bobs-db"})),
    ask("cutting another's container off", NETWORKS, changed("containers", "BOB"), Ask("POST", "/networks/bobs-net/disconnect", {"Container": "{BOB}", "Force": True})),
    ask("removing another's network", NETWORKS, gone("networks", "UNUSEDNET"), Ask("DELETE", "/networks/bobs-unused-net")),
    ask("another's network inspected", NETWORKS, told("bobs-db"), Ask("GET", "/networks/{NET}")),
    ask("another's network listed", NETWORKS, told("bobs-net"), Ask("GET", "/networks")),
    ask("another's network listed, with a slash", NETWORKS, told("bobs-net"), Ask("GET", "/networks/")),
    ask("who is on the bridge of all", NETWORKS, told("bobs-web"), Ask("GET", "/networks/bridge")),
    run("the environment of another's container by a link", NETWORKS, lambda stage: any(SECRET in str(stage.root.ask("GET", f"/containers/{found['Id']}/logs?stdout=1").body) for found in stage.made), {"Links": ["bobs-web:db"]}, Cmd=["env"]),
    create("a port below the limit", NETWORKS, host(lambda config: config["PortBindings"]), {"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}),
    create("a port in an odd format", NETWORKS, host(lambda config: config["PortBindings"]), {"PortBindings": {"80/tcp": [{"HostPort": "00080"}]}}),
    create("a range of ports that begins below", NETWORKS, host(lambda config: config["PortBindings"]), {"PortBindings": {"80/tcp": [{"HostPort": "22-8080"}]}}),
    create("a port on one address", NETWORKS, host(lambda config: config["PortBindings"]), {"PortBindings": {"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}]}}),
    create("a port on an address of the host's own", NETWORKS, host(lambda config: config["PortBindings"]), {"PortBindings": {"80/tcp": [{"HostIp": "192.168.77.5", "HostPort": "8080"}]}}),
    create("sysctls by an endpoint", NETWORKS, made(lambda found: "sysctls" in str(found["NetworkSettings"]["Networks"])), {"NetworkMode": "alices-net"}, NetworkingConfig={"EndpointsConfig": {"alices-net": {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}}}}),
]  # fmt: skip

READING = "others' things: read"
ROWS_READING = [
    ask("list", READING, listed("bobs-db"), Ask("GET", "/containers/json?all=1")),
    ask("list by a filter", READING, listed("bobs-db"), Ask("GET", '/containers/json?all=1&filters={"name":["bobs"]}')),
    ask("list by another's label", READING, listed("bobs-db"), Ask("GET", f'/containers/json?all=1&filters={{"label":["{OWNER}={{BOBUID}}"]}}')),
    ask("list in an older version", READING, listed("bobs-db"), Ask("GET", "/v1.24/containers/json?all=1"), engine="20"),
    *(
        ask(f"inspect by {form}", READING, told(SECRET), Ask("GET", f"/containers/{reference}/json"))
        for form, reference in (("name", "bobs-db"), ("ID", "{BOB}"), ("prefix", "{BOB4}"))
    ),
    ask("logs", READING, told(OUTPUT), Ask("GET", "/containers/bobs-db/logs?stdout=1")),
    ask("export", READING, told(FILE), Ask("GET", "/containers/bobs-db/export")),
    ask("a file", READING, told(FILE), Ask("GET", "/containers/bobs-db/archive?path=/file")),
    Attack("what a file is, by a HEAD", READING, [Raw(http("HEAD", "/containers/bobs-db/archive?path=/file", "Connection: close"))], told("X-Docker-Container-Path-Stat")),
    ask("a file of its volume", READING, told(FILE), Ask("GET", "/containers/bobs-db/archive?path=/data/file")),
    ask("processes", READING, told("sleep 600"), Ask("GET", "/containers/bobs-db/top")),
    ask("changes", READING, told('"/file"'), Ask("GET", "/containers/bobs-db/changes")),
    ask("statistics", READING, told("memory_stats"), Ask("GET", "/containers/bobs-db/stats?stream=0&one-shot=1")),
    ask("an exec by its ID alone", READING, told("/by-exec"), Ask("GET", "/exec/{EXEC}/json")),
    ask("events", READING, told("bobs-db"), Ask("GET", "/events?since=1&until={NOW}")),
    ask("events by a filter", READING, told("bobs-db"), Ask("GET", '/events?since=1&until={NOW}&filters={"container":["bobs-db"]}')),
    ask("disk usage", READING, told("bobs-db"), Ask("GET", "/system/df")),
    ask("how many containers others run", READING, lambda stage: not told('"ContainersRunning":0')(stage), Ask("GET", "/info")),
    ask("output by an attach", READING, told(OUTPUT), Raw(http("POST", "/containers/bobs-db/attach?logs=1&stdout=1", "Connection: Upgrade", "Upgrade: tcp"))),
    ask("output by an attach over a websocket, a GET", READING, told(OUTPUT), Raw(http("GET", "/containers/bobs-db/attach/ws?logs=1&stdout=1&stream=1", "Connection: Upgrade", "Upgrade: websocket", "Origin: http://d", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))),
    ask("processes of the host by top's columns", READING, told("Unexpected pid"), Ask("GET", "/containers/{OWN}/top?ps_args=" + quote("f -e -o args,pid"))),
    ask("the same, by a header of top's", READING, told("[kthreadd]"), Ask("GET", "/containers/{OWN}/top?ps_args=" + quote("-oargs=PID axf"))),
    ask("docker logs", READING, told(OUTPUT), Docker("logs bobs-db")),
    ask("docker inspect", READING, told(SECRET), Docker("inspect {BOB12}")),
]  # fmt: skip

CHANGING = "others' things: changed"
ROWS_CHANGING = [
    ask("kill", CHANGING, changed("containers", "BOB"), Ask("POST", "/containers/bobs-db/kill")),
    ask("stop by a prefix", CHANGING, changed("containers", "BOB"), Ask("POST", "/containers/{BOB4}/stop?t=0")),
    ask("restart", CHANGING, changed("containers", "BOB"), Ask("POST", "/containers/{BOB}/restart?t=0")),
    ask("pause", CHANGING, changed("containers", "BOB"), Ask("POST", "/containers/bobs-db/pause")),
    ask("start", CHANGING, changed("containers", "STOPPED"), Ask("POST", "/containers/bobs-stopped/start")),
    ask("rename", CHANGING, changed("containers", "STOPPED"), Ask("POST", "/containers/bobs-stopped/rename?name=alices-now")),
    ask("update", CHANGING, changed("containers", "STOPPED"), Ask("POST", "/containers/bobs-stopped/update", {"CpuShares": 7})),
    ask("remove", CHANGING, gone("containers", "STOPPED"), Ask("DELETE", "/containers/bobs-stopped?force=1")),
    ask("a file put in", CHANGING, changed("containers", "STOPPED"), Ask("PUT", "/containers/bobs-stopped/archive?path=/", tar(evil="x"))),
    ask("an exec", CHANGING, changed("containers", "BOB"), Ask("POST", "/containers/bobs-db/exec", {"Cmd": ["touch", "/evil"]}), Ask("POST", "/exec/{MADE}/start", {"Detach": False})),
    ask("an exec by its ID alone, started", CHANGING, lambda stage: (stage.inspect("/exec/{EXEC}/json") or {}).get("Pid") or (stage.inspect("/exec/{EXEC}/json") or {}).get("ExitCode") is not None, Ask("POST", "/exec/{EXEC}/start", {"Detach": False})),
    ask("committed", CHANGING, tagged("stolen"), Ask("POST", "/commit?container=bobs-db&repo=stolen")),
    ask("pruned", CHANGING, gone("containers", "STOPPED"), Ask("POST", "/containers/prune")),
    ask("pruned by a filter", CHANGING, gone("containers", "STOPPED"), Ask("POST", '/containers/prune?filters={"label":["a=b"]}')),
    ask("pruned by a filter that negates the attacker's own", CHANGING, gone("containers", "STOPPED"), Ask("POST", f'/containers/prune?filters={{"label!":["{OWNER}={{ALICE}}"]}}')),
    ask("networks pruned", CHANGING, gone("networks", "UNUSEDNET"), Ask("POST", "/networks/prune")),
    ask("volumes pruned", CHANGING, gone("volumes", "UNUSED"), Ask("POST", '/volumes/prune?filters={"all":["true"]}')),
    ask("a name that is another's ID", CHANGING, lambda stage: any(found["Name"] == "/" + stage.word("BOB12") for found in stage.made), Ask("POST", CREATE + "?name={BOB12}", wish())),
    ask("the same by a rename", CHANGING, lambda stage: (stage.inspect("/containers/{OWN}/json") or {}).get("Name") == "/" + stage.word("BOB12"), Ask("POST", "/containers/{OWN}/rename?name={BOB12}")),
    ask("docker rm", CHANGING, gone("containers", "STOPPED"), Docker("rm -f bobs-stopped")),
]  # fmt: skip

EXEC = "start, exec, attach"
ROWS_EXEC = [
    ask("privileged exec", EXEC, lambda stage: ((stage.inspect(f"/exec/{stage.word('MADE')}/json") or {}).get("ProcessConfig") or {}).get("privileged"), Ask("POST", "/containers/{OWN}/exec", {"Cmd": ["true"], "Privileged": True})),
    ask("a body at the start", EXEC, lambda stage: any(found["HostConfig"]["Binds"] for found in stage.made), Ask("POST", CREATE, wish()), Ask("POST", "/v1.23/containers/{MADE}/start", {"Binds": ["/:/h"], "Privileged": True}), engine="20"),
    ask("a body at the start, without a version", EXEC, privileged, Ask("POST", CREATE, wish()), Ask("POST", "/v1.21/containers/{MADE}/start", {"Privileged": True}), engine="20"),
]  # fmt: skip

UNPACKED = "cp: the daemon unpacks as root of the host"
HOME = Ask("POST", CREATE, wish({"Binds": ["{HOME}:/h"]}))
ROWS_UNPACKED = [
    ask("a device node in a folder of the host", UNPACKED, lambda stage: stage.in_home("disk"), HOME, Ask("PUT", "/containers/{MADE}/archive?path=/h", disk("disk"))),
    ask("the same from above", UNPACKED, lambda stage: stage.in_home("disk"), HOME, Ask("PUT", "/containers/{MADE}/archive?path=/&copyUIDGID=1", disk("h/disk"))),
    ask("the same through a link in the container", UNPACKED, lambda stage: stage.in_home("disk"), HOME, Ask("PUT", "/containers/{MADE}/archive?path=/", packed(name="way", type=tarfile.SYMTYPE, linkname="/h")), Ask("PUT", "/containers/{MADE}/archive?path=/way", disk("disk"))),
]  # fmt: skip

JSON = "JSON: two readers see two things"
ROWS_JSON = [
    *(
        Attack(name, JSON, [raw_json(text)], privileged, engine)
        for name, text, engine in (
            ("letters of another case", '{"Image":"busybox","Cmd":["x"],"hostconfig":{"privileged":true}}', "28"),
            ("capitals", '{"Image":"busybox","Cmd":["x"],"HOSTCONFIG":{"PRIVILEGED":true}}', "28"),
            ("a long s", '{"Image":"busybox","Cmd":["x"],"Ho\u017ftConfig":{"Privileged":true}}', "28"),
            ("a long s, escaped", '{"Image":"busybox","Cmd":["x"],"Ho\\u017ftConfig":{"Privileged":true}}', "28"),
            ("escaped letters", '{"Image":"busybox","Cmd":["x"],"HostConfi\\u0067":{"\\u0050rivileged":true}}', "28"),
            ("an object twice, which merges", '{"Image":"busybox","Cmd":["x"],"HostConfig":{"Privileged":true},"HostConfig":{}}', "28"),
            ("an object twice in two cases", '{"Image":"busybox","Cmd":["x"],"HostConfig":{"Privileged":true},"hostConfig":{"Memory":0}}', "28"),
            ("null that changes nothing", '{"Image":"busybox","Cmd":["x"],"HostConfig":{"Privileged":true,"Privileged":null}}', "28"),
            ("a value twice", '{"Image":"busybox","Cmd":["x"],"HostConfig":{"Privileged":false,"Privileged":true}}', "28"),
            ("something behind the end", '{"Image":"busybox","Cmd":["x"],"HostConfig":{"Privileged":true}} {"HostConfig":{}}', "20"),
            ("fields of the host at the top", '{"Image":"busybox","Cmd":["x"],"Privileged":true}', "20"),
            ("the same beside null", '{"Image":"busybox","Cmd":["x"],"HostConfig":null,"Privileged":true}', "20"),
        )
    ),
    Attack("a Kelvin sign", JSON, [raw_json('{"Image":"busybox","Cmd":["x"],"HostConfig":{"Ma\u017f\u212aedPaths":[]}}')], has("MaskedPaths", []), "28"),
    Attack("a Kelvin sign in a network", JSON, [raw_json('{"Name":"evil","\u0130pam":{},"Options":{"com.docker.network.bridge.name":"evil1"}}', target="/networks/create")], lambda stage: stage.on_host("ip", "-o", "link", "show", "evil1"), "28"),
    Attack("a content type with a parameter", JSON, [raw_json(PRIVILEGED, "Application/JSON; charset=utf-16")], privileged, "28"),
]  # fmt: skip

FORMS = "forms: a body wins over the query"
ROWS_FORMS = [
    *(
        row
        for engine in ("20", "28")
        for row in (
            Attack("a prune's filters", FORMS, [Ask("POST", '/containers/prune?filters={"label":["none"]}', "filters=" + quote('{"label":["a=b"]}'), FORM)], gone("containers", "STOPPED"), engine),
            Attack("the volumes' filters", FORMS, [Ask("POST", '/volumes/prune?filters={"label":["none"]}', "filters=" + quote("{}" if engine == "20" else '{"all":["true"]}'), FORM)], gone("volumes", "UNUSED"), engine),
            Attack("a tag", FORMS, [Ask("POST", "/images/busybox/tag?repo=good", "repo=evil&tag=2", FORM)], tagged("evil:2"), engine),
            Attack("an import's name", FORMS, [Ask("POST", "/images/busybox/tag?repo=good", "repo=evil", FORM + "; charset=x")], tagged("evil"), engine),
            Attack("a new name", FORMS, [Ask("POST", "/containers/{OWN}/rename?name=good", "name=evil", "Application/X-WWW-Form-Urlencoded")], lambda stage: stage.inspect("/containers/{OWN}/json")["Name"] == "/evil", engine),
        )
    ),
]  # fmt: skip

PATHS = "HTTP: a path that two readers take for two"
ROWS_PATHS = [
    *(
        Attack(name, PATHS, [Raw(http("GET", target, "Connection: close"))], judge)
        for name, target, judge in (
            ("an encoded slash", "/containers%2fjson?all=1", listed("bobs-db")),
            ("an encoded slash behind the ID", "/containers/{BOB}%2fjson", told(SECRET)),
            ("encoded letters", "/%63ontainers/{BOB}/js%6fn", told(SECRET)),
            ("a third number in the version", "/v1.41.0/containers/{BOB}/json", told(SECRET)),
            ("leading zeros in the version", "/v01.41/containers/{BOB}/json", told(SECRET)),
            ("an absolute target", "http://d/containers/{BOB}/json", told(SECRET)),
            ("an absolute target of any scheme", "x://d/containers/{BOB}/json", told(SECRET)),
            ("the daemon's variables", "/debug/vars", told('"cmdline"')),
            ("the daemon's command line", "/debug/pprof/cmdline", told("dockerd")),
            ("the same with a version", "/v1.41/debug/pprof/cmdline", told("dockerd")),
            ("a query without a value", "/containers/{BOB}/json?size", told(SECRET)),
            ("an encoded key of the query", "/containers/json?%61ll=1", listed("bobs-db")),
            ("a value twice in the query", "/containers/json?all=1&all=0", listed("bobs-stopped")),
        )
    ),
    Attack("a body on a GET", PATHS, [Raw(http("GET", "/containers/{BOB}/json", "Connection: close", body="{}"))], told(SECRET)),
    Attack("another method for the debug pages", PATHS, [Raw(http("POST", "/debug/pprof/cmdline", "Connection: close", "Content-Length: 0"))], told("dockerd"), "20"),
]  # fmt: skip

SMUGGLING = "HTTP: a second request behind the first"
CHUNKED = "POST {0} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n{1}\r\n"
ROWS_SMUGGLING = [
    *(
        Attack(name, SMUGGLING, [Raw(first + HIDDEN)], privileged)
        for name, first in (
            ("pipelined", http("GET", "/_ping")),
            ("behind a refused attach", http("POST", "/containers/nothing/resize?h=1&w=1", "Connection: Upgrade", "Upgrade: tcp", "Content-Length: 0")),
            ("behind an exec that is not there", http("POST", "/exec/nothing/start", "Connection: Upgrade", "Upgrade: tcp", body='{"Detach":false}')),
            ("behind a plain request with an upgrade", http("GET", "/_ping", "Connection: Upgrade", "Upgrade: tcp")),
            ("behind a request for HTTP/2", http("GET", "/_ping", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")),
            ("behind a detached exec with an upgrade", http("POST", "/exec/{OWNEXEC}/start", "Connection: Upgrade", "Upgrade: tcp", body='{"Detach":true}')),
            ("behind both lengths", CHUNKED.format("/containers/nothing/exec", "Content-Length: 100\r\n") + "2\r\n{}\r\n0\r\n\r\n"),
            ("behind chunks with an extension", CHUNKED.format("/containers/nothing/exec", "") + "2;a=b\r\n{}\r\n0\r\n\r\n"),
            ("behind chunks with a trailer", CHUNKED.format("/containers/nothing/exec", "") + "2\r\n{}\r\n0\r\nX: y\r\n\r\n"),
            ("behind a body where none belongs", http("POST", "/containers/nothing/start", body="{}")),
            ("behind bare line feeds", "GET /_ping HTTP/1.1\nHost: d\n\n"),
            ("behind a folded line", "GET /_ping HTTP/1.1\r\nHost: d\r\nX: a\r\n b\r\n\r\n"),
            ("behind an answer that streams", http("GET", "/events?until=1")),
        )
    ),
    Attack("chunks", SMUGGLING, [Raw(CHUNKED.format(CREATE, "Connection: close\r\n") + f"{len(PRIVILEGED):x}\r\n{PRIVILEGED}\r\n0\r\n\r\n")], privileged),
    Attack("HTTP/1.0", SMUGGLING, [Raw(http("POST", CREATE, body=PRIVILEGED, version="1.0"))], privileged),
]  # fmt: skip

IMAGES = "images: others' tags and contents"
EVIL = "FROM scratch\nCOPY Dockerfile /\n"


def moved(name: str, word: str) -> Judge:
    """Judge by a name that no longer names what it did."""
    return lambda stage: (stage.inspect(f"/images/{name}/json") or {}).get("Id") != stage.word(word)


ROWS_IMAGES = [
    *(
        ask(f"{whose} name moved by {way}", IMAGES, moved(f"{repository}:1", word), *(step._replace(target=step.target.replace("NAME", repository)) for step in steps))
        for whose, repository, word in (("everybody's", "shared", "BASE"), ("another's", "bobs-image", "IMAGE"))
        for way, steps in (
            ("a tag", [Ask("POST", "/build?t=evil", steal(EVIL)), Ask("POST", "/images/evil/tag?repo=NAME&tag=1")]),
            ("a commit", [Ask("POST", "/commit?container={OWN}&repo=NAME&tag=1")]),
            ("a build", [Ask("POST", "/build?t=NAME:1", steal(EVIL))]),
            ("a build's second name", [Ask("POST", "/build?t=evil&t=docker.io/library/NAME:1", steal(EVIL))]),
            ("an import", [Ask("POST", "/images/create?fromSrc=-&repo=NAME&tag=1", tar(x="y"))]),
            ("its removal", [Ask("DELETE", "/images/NAME:1?force=1")]),
        )
    ),
    ask("everybody's name moved by a load", IMAGES, moved("shared:1", "BASE"), Ask("POST", "/images/load", image_archive("shared:1"))),
    ask("another's name moved by a load", IMAGES, moved("bobs-image:1", "IMAGE"), Ask("POST", "/images/load", image_archive("bobs-image:1"))),
    ask("removed by its ID", IMAGES, moved("bobs-image:1", "IMAGE"), Ask("DELETE", "/images/{IMAGE}?force=1")),
    ask("pruned", IMAGES, moved("bobs-image:1", "IMAGE"), Ask("POST", f'/images/prune?filters={{"dangling":["false"],"label":["{OWNER}={{BOBUID}}"]}}')),
    ask("listed", IMAGES, told("bobs-image"), Ask("GET", "/images/json")),
    ask("listed by its label", IMAGES, told("{IMAGE}"), Ask("GET", f'/images/json?filters={{"label":["{OWNER}={{BOBUID}}"]}}')),
    ask("inspected", IMAGES, told(SECRET), Ask("GET", "/images/bobs-image:1/json")),
    ask("its history", IMAGES, told(SECRET), Ask("GET", "/images/{IMAGE}/history")),
    ask("saved", IMAGES, told(FILE), Ask("GET", "/images/bobs-image:1/get")),
    ask("saved among others", IMAGES, told(FILE), Ask("GET", "/images/get?names=busybox&names={IMAGE}")),
    *(
        ask(f"run by its {form}", IMAGES, made(lambda found: SECRET in str(found["Config"]["Env"])), Ask("POST", CREATE, wish(Image=reference)))
        for form, reference in (("name", "bobs-image:1"), ("ID", "{IMAGE}"))
    ),
    create("mounted", IMAGES, host(lambda config: "bobs-image" in str(config["Mounts"])), {"Mounts": [{"Type": "image", "Source": "bobs-image:1", "Target": "/x"}]}),
    *(
        ask(f"built from, by {form}", IMAGES, told("Successfully built"), Ask("POST", "/build?nocache=1", steal(text)))
        for form, text in (
            ("name", "FROM bobs-image:1\n"),
            ("an argument", "ARG A=bobs-image\nFROM ${A}:1\n"),
            ("a copy", f"FROM busybox\nCOPY --from=bobs-image:1 /{FILE} /x\n"),
        )
    ),
]  # fmt: skip

LABELS = "labels: whose a thing is"
CLAIM = {OWNER: "{BOBUID}"}
ROWS_LABELS = [
    ask("a container", LABELS, labelled("/containers/{MADE}/json"), Ask("POST", CREATE, wish(Labels=CLAIM))),
    ask("a container, in capitals", LABELS, labelled("/containers/{MADE}/json", OWNER.upper()), Ask("POST", CREATE, wish(Labels={OWNER.upper(): "{BOBUID}"}))),
    ask("another word of sockproxy's", LABELS, labelled("/containers/{MADE}/json", "io.sockproxy.other"), Ask("POST", CREATE, wish(Labels={"io.sockproxy.other": "{BOBUID}"}))),
    ask("a volume", LABELS, labelled("/volumes/evil"), Ask("POST", "/volumes/create", {"Name": "evil", "Labels": CLAIM})),
    ask("a volume of a mount", LABELS, labelled("/volumes/evil"), Ask("POST", CREATE, wish({"Mounts": [{"Type": "volume", "Source": "evil", "Target": "/x", "VolumeOptions": {"Labels": CLAIM}}]}))),
    ask("a network", LABELS, labelled("/networks/evil"), Ask("POST", "/networks/create", {"Name": "evil", "Labels": CLAIM})),
    ask("an image by a build's parameter", LABELS, labelled("/images/evil/json"), Ask("POST", "/build?t=evil&labels=" + quote('{"io.sockproxy.owner":"') + "{BOBUID}" + quote('"}'), steal("FROM busybox\n"))),
    ask("an image by a commit's changes", LABELS, labelled("/images/evil/json"), Ask("POST", f"/commit?container={{OWN}}&repo=evil&changes=LABEL%20{OWNER}={{BOBUID}}", {})),
    ask("an image by its Dockerfile", LABELS, labelled("/images/evil/json", OWNER, "31337"), Ask("POST", "/build?t=evil", steal(f"FROM busybox\nLABEL {OWNER}=31337\n"))),
    ask("an image by a commit's body", LABELS, labelled("/images/evil/json"), Ask("POST", "/commit?container={OWN}&repo=evil", {"Labels": CLAIM})),
    ask("an image by an import's changes", LABELS, labelled("/images/evil/json"), Ask("POST", f"/images/create?fromSrc=-&repo=evil&changes=LABEL%20{OWNER}={{BOBUID}}", tar(x="y"))),
]  # fmt: skip

DEPUTY = "the daemon as a deputy: what only the host reaches"
ROWS_DEPUTY = [
    ask("an import from a URL", DEPUTY, lambda stage: stage.service_hit("/import"), Ask("POST", "/images/create?fromSrc=http://127.0.0.1:{PORT}/import")),
    ask("a build from a URL", DEPUTY, lambda stage: stage.service_hit("/remote"), Ask("POST", "/build?remote=http://127.0.0.1:{PORT}/remote", b"")),
    ask("a search", DEPUTY, lambda stage: stage.service_hit("/v1"), Ask("GET", "/images/search?term=127.0.0.1:{PORT}/x")),
    ask("a plugin's privileges", DEPUTY, lambda stage: stage.service_hit("/v2"), Ask("GET", "/plugins/privileges?remote=127.0.0.1:{PORT}/plugin:1")),
    ask("a plugin pulled", DEPUTY, lambda stage: stage.service_hit("/v2"), Ask("POST", "/plugins/pull?remote=127.0.0.1:{PORT}/plugin:1", [])),
]  # fmt: skip

SYSTEM = "the system"
ROWS_SYSTEM = [
    ask("plugins", SYSTEM, told("[]"), Ask("GET", "/plugins")),
    ask("the swarm", SYSTEM, told("not a swarm manager"), Ask("GET", "/nodes")),
    ask("a build by BuildKit", SYSTEM, tagged("evil"), Ask("POST", "/build?version=2&t=evil", steal("FROM scratch\nCOPY Dockerfile /\n"))),
    ask("a snapshot in any folder", SYSTEM, told("experimental"), Ask("POST", "/containers/{OWN}/checkpoints", {"CheckpointID": "c", "CheckpointDir": "/etc"})),
]  # fmt: skip

ATTACKS: list[Attack] = [
    *ROWS_RIGHTS,
    *ROWS_NAMESPACES,
    *ROWS_LIMITS,
    *ROWS_FILES,
    *ROWS_VOLUMES,
    *ROWS_NETWORKS,
    *ROWS_READING,
    *ROWS_CHANGING,
    *ROWS_EXEC,
    *ROWS_UNPACKED,
    *ROWS_JSON,
    *ROWS_FORMS,
    *ROWS_PATHS,
    *ROWS_SMUGGLING,
    *ROWS_IMAGES,
    *ROWS_LABELS,
    *ROWS_DEPUTY,
    *ROWS_SYSTEM,
]

# What the bare daemon of the tests' machine can't show, and why; judged by what reaches a daemon: nothing at all.
UNSHOWN: list[tuple[str, str, Any]] = [
    # no ipvlan in its kernel
    ("POST", "/networks/create", {"Name": "evil", "Driver": "ipvlan"}),
    ("POST", "/networks/create", {"Name": "evil", "Driver": "ipvlan", "Options": {"parent": "eth0", "ipvlan_mode": "l2"}}),
    # the engine would not start another container: its own bridge gets other addresses
    ("POST", "/networks/create", {"Name": "evil", "Options": {"com.docker.network.bridge.name": "docker0"}}),
    # no such plugins, which would run as root of the host
    ("POST", "/volumes/create", {"Name": "evil", "Driver": "sshfs", "DriverOpts": {"sshcmd": "x"}}),
    ("POST", CREATE, wish({"VolumeDriver": "sshfs", "Binds": ["evil:/x"]})),
    ("POST", CREATE, wish({"LogConfig": {"Type": "plugin"}})),
    ("POST", "/networks/create", {"Name": "evil", "IPAM": {"Driver": "plugin"}}),
    # no CRIU: a snapshot is read from, and written to, any folder
    ("POST", "/containers/{OWN}/start?checkpoint=c&checkpoint-dir=/etc", None),
    ("DELETE", "/containers/{OWN}/checkpoints/c?dir=/etc", None),
    # its root may not: realtime scheduling, memory of the kernel's
    ("POST", CREATE, wish({"CpuRealtimePeriod": 1_000_000, "CpuRealtimeRuntime": 950_000})),
    ("POST", "/containers/{OWN}/update", {"CpuRealtimeRuntime": 950_000}),
    # no cluster: its volumes and secrets
    ("POST", CREATE, wish({"Mounts": [{"Type": "cluster", "Source": "x", "Target": "/x"}]})),
    ("POST", "/volumes/create", {"Name": "evil", "ClusterVolumeSpec": {"Group": "x"}}),
    ("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377"}),
    ("POST", "/swarm/join", {"RemoteAddrs": ["192.0.2.1:2377"]}),
    ("POST", "/services/create", {"TaskTemplate": {"ContainerSpec": {"Image": "busybox", "Privileges": {}}}}),
    ("GET", "/secrets", None),
    ("POST", "/secrets/create", {"Name": "x"}),
    # no engine that has them: fields of the newest API
    ("POST", CREATE, wish({"Capabilities": ["CAP_SYS_ADMIN"]})),
    ("POST", CREATE, wish({"Cgroup": "container:x"})),
    ("POST", CREATE, wish({"DiskQuota": 1})),
    ("POST", CREATE, wish({"NoSuchField": True})),
    # no daemon behind: it would show what is kept nowhere
    ("POST", "/containers/{OWN}/copy", {"Resource": "/etc/shadow"}),
]  # fmt: skip

# What passes through a developer's ordinary commands, and no filter of the API can tell from use: a Dockerfile's ADD,
# and registries, which may be any host. Only the host's firewall keeps the daemon from its own loopback and metadata.
OPEN: list[Attack] = [
    ask("ADD of a URL in a Dockerfile", DEPUTY, lambda stage: stage.service_hit("/add"), Ask("POST", "/build?nocache=1", steal("FROM busybox\nADD http://127.0.0.1:18999/add /x\n"))),
    ask("a registry that is none, by distribution", DEPUTY, lambda stage: stage.service_hit("/v2"), Ask("GET", "/distribution/127.0.0.1:{PORT}/x/json")),
    ask("a registry that is none, by a pull", DEPUTY, lambda stage: stage.service_hit("/v2"), Ask("POST", "/images/create?fromImage=127.0.0.1:{PORT}/x&tag=1")),
]  # fmt: skip
