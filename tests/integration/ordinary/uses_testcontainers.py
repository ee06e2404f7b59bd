"""Use testcontainers as its documentation shows; run as a user where the daemon publishes ports."""

import urllib.request
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

# Those whose log is waited for stay: of one that ends between a look at its log and one at its state, testcontainers
# says that it ended before it said anything, at the bare daemon as well.
with DockerContainer("busybox").with_command("sh -c 'echo hello from a test; sleep 600'") as one:
    one.waiting_for(LogMessageWaitStrategy("hello from a test"))
    assert b"hello" in one.get_logs()[0]

web = DockerContainer("busybox").with_command("httpd -f -p 8000 -h /etc").with_exposed_ports(8000)
web.with_env("MODE", "test").with_kwargs(mem_limit="64m").waiting_for(HttpWaitStrategy(8000, "/passwd"))
with web:
    assert int(web.get_exposed_port(8000)) >= 1024
    address = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(8000)}/passwd"
    assert b"root" in urllib.request.urlopen(address, timeout=10).read()
    assert web.exec(["sh", "-c", "echo $MODE"]).output == b"test\n"
    labels = web.get_wrapped_container().labels
    assert labels["org.testcontainers.lang"] == "python"
    assert labels["org.testcontainers.session-id"]

with Network() as network:
    server = DockerContainer("busybox").with_command("nc -ll -p 7000 -e echo pong")
    client = DockerContainer("busybox").with_command("sleep 600")
    with server.with_network(network).with_network_aliases("server"), client.with_network(network):
        assert client.exec(["sh", "-c", "sleep 0.2 | nc server 7000"]).output == b"pong\n"

folder = Path.home() / "tc"
folder.mkdir(exist_ok=True)
(folder / "file").write_text("from the home\n")
(folder / "Dockerfile").write_text("FROM busybox\nCOPY file /file\nCMD cat /file && sleep 600\n")
mounted = DockerContainer("busybox").with_command("sh -c 'cat /data/file; sleep 600'")
mounted.with_volume_mapping(str(folder), "/data", "ro")
with mounted.waiting_for(LogMessageWaitStrategy("from the home")):
    pass
image = DockerImage(path=str(folder), tag="tc-built:latest")
with image, DockerContainer(str(image)).waiting_for(LogMessageWaitStrategy("from the home")):
    pass
print("all done")
