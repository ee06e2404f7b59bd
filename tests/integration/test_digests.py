"""Nobody gets an image that is another's alone by knowing its digest, from a registry that only claims to have it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import quote

import pytest

from sockproxy_helpers.content.ledger import Ledger
from tests.integration.conftest import People
from tests.integration.test_buildkit import build
from tests.integration.test_buildkit import folder as lay_out
from tests.integration.test_loads import member, pack
from tests.support import llb
from tests.support.belongings import Person
from tests.support.claiming_registry import MANIFEST, ClaimingRegistry, digest
from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.grpc import BRIDGE, CONTROL, SCHEMA, Grpc, Reply, message
from tests.support.proxy import Proxy, default_policy
from tests.support.raw import Answer
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

PRIVATE = "FROM busybox\nENV SECRET=a1ices-s3cret\nRUN echo a1ices-f1le >/file\n"
WHOSE = "is an image of somebody else's, who has not pushed it there through sockproxy"


class Scene:
    """Alice has an image of her own, and the registry names it by the digests that it has in the engine's store.

    Attributes:
        tags: what the registry says that it has.
    """

    def __init__(self, people: People, registry: ClaimingRegistry) -> None:
        self.people, self.registry = people, registry
        self.repository = f"{registry.name}/evil/x"
        assert people.alice.build(PRIVATE, "t=alices:1").status == 200
        found = people.root.get("GET", "/images/alices:1/json")
        self.id, self.layers = str(found["Id"]), found["RootFS"]["Layers"]
        if "Descriptor" in found:  # containerd's store: the ID is a manifest's
            registry.claim("manifest", self.id, found["Descriptor"]["mediaType"])
            registry.claim(self.id, self.id, found["Descriptor"]["mediaType"])
            manifest = self.manifest()
            layers = [(str(layer["digest"]), int(layer["size"])) for layer in manifest["layers"]]
            registry.offer("config", manifest["config"]["digest"], layers)
            registry.offer("config-alone", manifest["config"]["digest"], [])
            self.tags = ["manifest", self.id, "config", "config-alone"]
        else:  # it is a config's
            registry.offer("config", self.id, [])
            self.tags = ["config"]

    def manifest(self) -> Any:
        """Read the manifest of Alice's image, which an attacker knows from the logs of a build."""
        packed = self.people.root.ask("GET", "/images/alices:1/get").body
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            file = archive.extractfile(f"blobs/sha256/{self.id.partition(':')[2]}")
            assert file
            return json.load(file)

    def name(self, tag: str) -> str:
        return f"{self.repository}{'@' if ':' in tag else ':'}{tag}"

    def pull(self, who: Person, tag: str) -> Answer:
        return who.ask("POST", f"/images/create?fromImage={self.repository}&tag={tag}")

    def named(self) -> set[str]:
        """Give the names that the engine has from the registry."""
        found = self.people.root.get("GET", "/images/json")
        names = {name for image in found for name in [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]}
        return {name for name in names if name.startswith(self.registry.name)}


@pytest.fixture(params=["classic", "containerd"])
def store(request: pytest.FixtureRequest, engine28: Engine) -> Engine:
    """An engine with each image store in turn."""
    return engine28 if request.param == "classic" else request.getfixturevalue("containerd")


@pytest.fixture(scope="module")
def registries() -> dict[str, ClaimingRegistry]:
    return {}


@pytest.fixture(scope="module")
def _containerd_proxy(containerd: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    users.add_plugins(containerd.plugins)
    place = folder / "containerd-proxy"
    place.mkdir()
    running = Proxy(containerd, place, default_policy(users))
    yield running
    running.stop()


@pytest.fixture
def proxy_of(request: pytest.FixtureRequest, store: Engine, engine28: Engine) -> Proxy:
    """A sockproxy before it."""
    proxy: Proxy = request.getfixturevalue("proxy28" if store is engine28 else "_containerd_proxy")
    return proxy


@pytest.fixture
def scene(store: Engine, users: Users, proxy_of: Proxy, registries: dict[str, ClaimingRegistry]) -> Iterator[Scene]:
    people = People(proxy_of, users)
    people.root.clean()
    key = str(store.folder)
    if key not in registries:
        registries[key] = ClaimingRegistry(store)
    yield Scene(people, registries[key])
    people.root.clean()


def test_a_pull_brings_nothing_of_anothers(scene: Scene) -> None:
    root, alice, bob = scene.people.root, scene.people.alice, scene.people.bob
    for tag in scene.tags:
        scene.pull(root, tag)
        env = root.get("GET", f"/images/{scene.name(tag)}/json")["Config"]["Env"]
        assert "SECRET=a1ices-s3cret" in env, "does not work on the bare daemon"
        root.get("DELETE", f"/images/{scene.name(tag)}")
    for tag in scene.tags:
        answer = scene.pull(bob, tag)
        assert WHOSE in answer.body.decode(), answer.body
        assert bob.ask("GET", f"/images/{scene.name(tag)}/json").status == 404
        assert bob.ask("GET", f"/images/{scene.id}/json").status == 404
        assert bob.ask("POST", "/containers/create", {"Image": scene.name(tag)}).status == 404
    assert scene.named() == set()
    assert alice.get("GET", "/images/alices:1/json")["Id"] == scene.id
    for tag in scene.tags:  # the classic builder pulls what it is from
        answer = bob.build(f"FROM {scene.name(tag)}\nRUN cat /file\n")
        assert "a1ices" not in answer.body.decode()
        assert WHOSE in answer.body.decode() or "mismatched image rootfs" in answer.body.decode(), answer.body
        answer = bob.build(f"FROM {scene.name(tag)}\nRUN cat /file\n", f"t={scene.repository}:{tag[-9:]}")
        assert "a1ices" not in answer.body.decode()
    assert scene.named() == set()


_LIST = "['127.0.0.1:5000/team/app', 'docker.io/library/busybox:latest']"
LISTED = f"roles:\n  developer: {{extends: developer, registries: {_LIST}}}\n"
UNLISTED = "may not have the daemon ask a registry for"


def test_registries_that_are_not_listed_are_not_asked(
    scene: Scene, store: Engine, proxy_of: Proxy, users: Users
) -> None:
    root, bob, pushed = scene.people.root, scene.people.bob, f"{store.registry()}/team/app:9"
    assert root.ask("POST", f"/images/busybox/tag?repo={pushed.rpartition(':')[0]}&tag=9").status == 201
    assert_done(store.docker("push", pushed))
    proxy_of.reload(default_policy(users) + LISTED)
    try:
        for tag in scene.tags:
            name = scene.name(tag)
            assert UNLISTED in scene.pull(bob, tag).body.decode()
            assert UNLISTED in bob.build(f"FROM {name}\nRUN cat /file\n").body.decode()
            for text in (
                f"FROM {name}\nRUN env; cat /file\n",
                f"FROM busybox\nCOPY --from={name} /file /x\nRUN cat /x\n",
            ):
                context = str(lay_out(users.bob, "stolen", {"Dockerfile": text}))
                done = build(proxy_of, users.bob, "--no-cache", context)
                assert (done.returncode, "denied by policy" in done.stderr) == (1, True), done.stderr[-500:]
                assert "a1ices" not in done.stderr
        assert UNLISTED in bob.ask("GET", f"/distribution/{scene.name('config')}/json").body.decode()
        assert scene.named() == set()
        root.get("DELETE", f"/images/{pushed}")
        for text in (
            f"FROM {pushed}\nRUN true\n",
            "FROM busybox\nRUN true\n",
            f"FROM busybox\nCOPY --from={pushed} /bin/sh /x\n",
        ):
            assert_done(build(proxy_of, users.bob, str(lay_out(users.bob, "listed", {"Dockerfile": text}))))
        assert bob.ask("GET", f"/distribution/{pushed}/json").status == 200
        assert_done(proxy_of.docker(users.bob, "run", "--rm", pushed, "true"))
        root.get("DELETE", f"/images/{pushed}")
        assert "Successfully built" in bob.build(f"FROM {pushed}\nRUN true\n").body.decode()
        root.ask("DELETE", f"/images/{pushed}?force=1")
    finally:
        proxy_of.reload(default_policy(users))


def test_an_image_without_a_name_stays_its_owners(scene: Scene) -> None:
    root, alice, bob = scene.people.root, scene.people.alice, scene.people.bob
    assert alice.build("FROM busybox\nRUN echo new\n", "t=alices:1").status == 200
    assert WHOSE in scene.pull(bob, scene.tags[0]).body.decode()
    assert bob.ask("GET", f"/images/{scene.name(scene.tags[0])}/json").status == 404
    assert "a1ices" in str(root.get("GET", f"/images/{scene.id}/json"))
    assert alice.ask("DELETE", f"/images/{scene.id}").status == 200


def test_no_build_is_from_anothers_manifest(scene: Scene, proxy_of: Proxy, users: Users) -> None:
    for tag in [tag for tag in scene.tags if "config" not in tag]:
        context = str(lay_out(users.bob, "stolen", {"Dockerfile": f"FROM {scene.name(tag)}\nRUN env; cat /file\n"}))
        done = build(proxy_of, users.bob, "--progress=plain", "--no-cache", context)
        assert (done.returncode, "denied by policy" in done.stderr) == (1, True), done.stderr[-500:]
        assert "a1ices" not in done.stderr


def test_no_build_is_from_anothers_config(scene: Scene, store: Engine, proxy_of: Proxy, users: Users) -> None:
    """By a manifest, an index or a layout that names no more of it than that: BuildKit has all else."""
    registry, bare = scene.registry, proxy_of.environment(users.root) | {"DOCKER_HOST": f"unix://{store.socket}"}
    hers = str(lay_out(users.alice, "hers", {"Dockerfile": f"{PRIVATE}RUN echo {registry.name} >/more\n"}))
    log = build(proxy_of, users.alice, "-t", "alices:2", hers).stderr
    (config,) = set(re.findall("(?:exporting config|writing image) (sha256:[0-9a-f]{64})", log))
    layers = scene.people.root.get("GET", "/images/alices:2/json")["RootFS"]["Layers"]
    hidden = [(f"sha256:{number:064x}", 300) for number in range(len(layers))]
    manifest = registry.offer("stolen", config, hidden)
    registry.offer("again", config, hidden)
    registry.wrap("wrapped", manifest, len(registry.text(manifest)))
    layout = users.bob.home / "layout"
    described = {"mediaType": MANIFEST, "digest": manifest, "size": len(registry.text(manifest))}
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    lay_out(
        users.bob, "layout",
        {
            "oci-layout": '{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [described]}),
            f"blobs/sha256/{manifest.partition(':')[2]}": registry.text(manifest),
        },
    )  # fmt: skip
    stolen, wrapped = (f"{scene.repository}:{tag}" for tag in ("stolen", "wrapped"))
    ways = [f"FROM {stolen}", f"FROM {wrapped}", f"FROM busybox\nENV A=b\nCOPY --from={stolen} /file /"]
    if (
        len(scene.tags) > 1
    ):  # containerd's store has manifests; that of her image is in an index, beside what attests it
        (item,) = [
            one for one in scene.people.root.get("GET", "/images/json?manifests=1") if "alices:2" in one["RepoTags"]
        ]
        inner = item["Manifests"][0]["Descriptor"]
        registry.claim("inner", inner["digest"], inner["mediaType"], inner["size"])
        ways += [f"FROM {scene.repository}:inner", "FROM base"]  # and it takes layouts
    for number, way in enumerate(ways):
        text = {"Dockerfile": f"{way}\nRUN echo {number}; env; cat /file\n"}
        context = [f"--build-context=base=oci-layout://{layout}", str(lay_out(users.bob, "stolen", text))]
        done = build(proxy_of, users.root, *context, env=bare)
        assert "a1ices-f1le" in done.stderr, f"does not work on the bare daemon: {way}: {done.stderr[-800:]}"
        done = build(proxy_of, users.bob, *context)
        assert (done.returncode, WHOSE in done.stderr, "a1ices" in done.stderr) == (1, True, False), done.stderr[-800:]
    sockets = {users.root: store.socket, users.bob: proxy_of.listen}
    given_as_a_dockerfile(scene, sockets, f"{stolen}@{manifest}")
    if len(scene.tags) == 1:  # the classic store has names without a digest
        removed_before_it_is_taken(scene, sockets)
        context = [str(lay_out(users.bob, "again", {"Dockerfile": "FROM here:own\nRUN date >>/dates\n"}))]
        assert scene.people.bob.ask("POST", "/images/busybox/tag?repo=here&tag=own").status == 201
        for _ in range(2):  # from what it is to be itself
            assert_done(build(proxy_of, users.bob, "--no-cache", "-t", "here:own", *context))


@contextlib.contextmanager
def by_hand(path: Path | str, who: User, ref: str) -> Iterator[Callable[..., Reply]]:
    """Begin a build by a gateway; give what makes calls about it: by method, with the fields of its message."""
    with contextlib.closing(Grpc.open(path, who)) as client:
        client.start(CONTROL + "Solve", message("control.SolveRequest", Ref=ref, Session="s"))
        yield lambda method, **fields: client.call(
            BRIDGE + method, message(f"gateway.{method}Request", **fields), buildkit_controlapi_buildid=ref
        )


def given_as_a_dockerfile(scene: Scene, sockets: dict[User, Path], stolen: str) -> None:
    """A frontend reads its Dockerfile from what it is given, and tells what is wrong with it."""
    for (who, path), why in zip(sockets.items(), ("unknown instruction: a1ices-f1le", WHOSE), strict=True):
        image = llb.source(f"docker-image://{stolen}")
        given = llb.definition(image) | {"metadata": {llb.digest(image): {"progress_group": {"id": "x"}}}}
        with by_hand(path, who, "given") as call:
            reply = call(
                "Solve",
                Frontend="dockerfile.v0",
                FrontendOpt={"filename": "file"},
                FrontendInputs={"dockerfile": given},
            )
            assert why in reply.text, reply.text


def removed_before_it_is_taken(scene: Scene, sockets: dict[User, Path]) -> None:
    """What a name means is looked at; it is removed before the build takes it, and its registry is asked.

    By another name each: what a build at the daemon itself has taken is another's, as long as that build is there.
    """
    for (who, path), tag, got in zip(sockets.items(), ("stolen", "again"), (b"a1ices-f1le\n", b""), strict=True):
        base = llb.source(f"docker-image://{scene.name(tag)}")
        person = scene.people.root if who.uid == 0 else scene.people.bob
        assert person.ask("POST", f"/images/busybox/tag?repo={scene.repository}&tag={tag}").status == 201
        with by_hand(path, who, "removed") as call:
            wanted = llb.definition(base, llb.step(base, "true"))
            (solved,) = call("Solve", Definition=wanted, allowResultReturn=True, allowResultArrayRef=True).messages
            ref = SCHEMA.parse("gateway.SolveResponse", solved).result.ref.id
            assert person.ask("DELETE", f"/images/{scene.name(tag)}").status == 200
            file, shell = (call("ReadFile", Ref=ref, FilePath=name) for name in ("/file", "/bin/sh"))
            assert (b"".join(file.messages)[2:], shell.status) == (got, 0), (who.name, file.text)


@pytest.mark.parametrize("store", ["containerd"], indirect=True)
def test_nothing_of_anothers_is_a_layer(scene: Scene, store: Engine, proxy_of: Proxy, users: Users) -> None:
    """Her config, which the log of her build tells: a build hands it out, and a save what is of some other kind."""
    registry, hers = scene.registry, scene.manifest()["config"]
    taken, diff = [(str(hers["digest"]), int(hers["size"]))], "sha256:" + "1" * 64
    for tag, kind, layers in (
        ("layer", "application/vnd.oci.image.layer.v1.tar", [diff]),
        ("file", "application/vnd.test+json", []),
    ):
        rootfs = {"type": "layers", "diff_ids": layers}
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs})
        registry.offer(tag, digest(config), taken, config, kind)
    context = str(lay_out(users.bob, "layers", {"Dockerfile": f"FROM {scene.name('layer')}\n"}))
    for who, person, env in (
        (users.root, scene.people.root, {"DOCKER_HOST": f"unix://{store.socket}"}),
        (users.bob, scene.people.bob, {}),
    ):
        packed = users.bob.home / f"layers{who.uid}.tar"
        arguments = ["--provenance=false", "--output", f"type=oci,dest={packed}", context]
        built = build(proxy_of, who, *arguments, env=proxy_of.environment(who) | env).stderr
        pulled = scene.pull(person, "file").body.decode()
        saved = person.ask("GET", f"/images/{scene.name('file')}/get").body
        has = [b"a1ices-s3cret" in text for text in (packed.read_bytes() if packed.exists() else b"", saved)]
        free = who is users.root
        assert (has, WHOSE in pulled, WHOSE in built) == ([free, free], not free, not free), (built, pulled)
        if free:
            person.get("DELETE", f"/images/{scene.name('file')}")
    assert scene.named() == set()


@pytest.mark.parametrize("store", ["containerd"], indirect=True)
def test_no_platform_of_an_index_is_anothers(scene: Scene) -> None:
    """An honest image for this machine, and for another one hers, which comes into the store by a pull of its own."""
    registry, root, bob, name = scene.registry, scene.people.root, scene.people.bob, scene.name("mixed")
    config = '{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}'
    honest = registry.offer("honest", digest(config), [], config)
    manifest = scene.manifest()
    layers = [(str(layer["digest"]), int(layer["size"])) for layer in manifest["layers"]]
    hers = registry.offer("hers", manifest["config"]["digest"], layers)
    registry.wrap("mixed", honest, len(registry.text(honest)), riscv64=hers)
    other = "platform=" + quote('{"os": "linux", "architecture": "riscv64"}')
    uses = [("GET", f"/images/{name}/history?{other}"), ("GET", f"/images/{name}/get")]
    uses += [("POST", f"/images/{name}/tag?repo=mixed&tag=1"), ("POST", f"/images/{name.rpartition(':')[0]}/push")]
    assert WHOSE not in scene.pull(bob, "mixed").body.decode()
    assert bob.ask(*uses[0]).status >= 400  # that is not here
    assert WHOSE in scene.pull(bob, "hers").body.decode()
    for method, target in uses:
        answer = bob.ask(method, target)
        assert (answer.status, WHOSE in answer.body.decode()) == (403, True), (target, answer.body[:500])
    answer = bob.ask("POST", "/containers/create?platform=linux/riscv64", {"Image": name, "Cmd": ["env"]})
    assert (answer.status, WHOSE in answer.body.decode()) == (403, True), answer.body
    assert b"a1ices" in root.ask(*uses[0]).body, "not so on the bare daemon"
    assert WHOSE in scene.pull(bob, "mixed").body.decode()
    assert bob.ask("GET", f"/images/{name}/json").status == 404


SECRET = "a1ices-s3cret"
# What a frontend looks up of an image's environment, and says: in an error, to --check, to --call, as it goes; and what
# is nothing but its environment.
TELLING = {
    "error": ([], "FROM {}\nEXPOSE ${}\n"),
    "check": (["--check"], "FROM {}\nWORKDIR ${}\n"),
    "call": (["--call=outline"], "FROM {}\nARG TOLD=${}\n"),
    "warning": (["--progress=rawjson"], "FROM {}\nWORKDIR ${}\nRUN true\n"),
    "bare": (["--no-cache"], 'FROM {}\nCOPY --from=busybox /bin /bin\nRUN ["/bin/sh", "-c", "echo ${}"]\n'),
}


def own_config(env: str) -> tuple[str, str, list[tuple[str, int]]]:
    """Form the config of an image of one's own: digest, text and layers."""
    layer = "sha256:" + "2" * 64
    rootfs = {"type": "layers", "diff_ids": [layer]}
    text = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Env": [env]}, "rootfs": rootfs})
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", text, [(layer, 300)]


def test_a_frontend_says_nothing_of_anothers_config(scene: Scene, store: Engine, proxy_of: Proxy, users: Users) -> None:
    registry, bare = scene.registry, proxy_of.environment(users.root) | {"DOCKER_HOST": f"unix://{store.socket}"}

    def offered(tag: str, text: str, layers: list[tuple[str, int]]) -> str:
        context = str(lay_out(users.alice, "hers", {"Dockerfile": f"{text}ENV OF={store.folder}\n"}))
        log = build(proxy_of, users.alice, "-t", f"alices:{tag}", context).stderr
        return registry.offer(
            tag, re.findall("(?:exporting config|writing image) (sha256:[0-9a-f]{64})", log)[0], layers
        )

    def said(user: User, text: str, *arguments: str, **options: object) -> CompletedProcess[str]:
        return build(proxy_of, user, *arguments, str(lay_out(users.bob, "stolen", {"Dockerfile": text})), **options)

    def hers() -> str:
        offered("bare", f"FROM scratch\nENV SECRET={SECRET}\n", [])
        return offered("told", PRIVATE, [("sha256:" + "1" * 64, 300)])

    told = hers()
    registry.wrap("indexed", told, len(registry.text(told)))
    digest, config, layers = own_config("SECRET=b0bs-own")
    own = registry.offer("own", digest, layers, config)
    names = {"error": ":told", "check": ":indexed", "call": f"@{told}", "warning": ":told", "bare": ":bare"}
    for way in TELLING if len(scene.tags) == 1 else ("error", "bare"):  # the store makes no difference to the rest
        arguments, line = TELLING[way]
        text = line.format(scene.repository + names[way], "SECRET")
        done = said(users.root, text, *arguments, env=bare)
        if "from remote: not found" in done.stderr:  # the classic store collects configs that no build holds
            assert hers() == told
            done = said(users.root, text, *arguments, env=bare)
        assert SECRET in done.stdout + done.stderr, f"does not work on the bare daemon: {way}: {done}"
        done = said(users.bob, text, *arguments)
        assert (done.returncode, WHOSE in done.stderr, SECRET in done.stdout + done.stderr) == (1, True, False), done
    # A name that means hers when it is asked for the first time, and then no more.
    registry.turn("turn", told, own)
    done = said(users.bob, TELLING["error"][1].format(f"{scene.repository}:turn", "SECRET"))
    assert ("b0bs-own" in done.stdout + done.stderr, SECRET in done.stdout + done.stderr) == (True, False), done


def test_what_a_frontend_says_is_told(engine28: Engine, proxy28: Proxy, users: Users) -> None:
    """Word for word, of an image that is not here yet."""
    bare = proxy28.environment(users.root) | {"DOCKER_HOST": f"unix://{engine28.socket}"}
    pushed = f"{engine28.registry()}/team/said:1"
    for words in (["tag", "busybox", pushed], ["push", pushed], ["rmi", pushed]):
        assert_done(engine28.docker(*words))
    for way, says in {"error": ">>> EXPOSE $PATH", "check": "is deprecated", "call": "TOLD        /bin"}.items():
        arguments, line = TELLING[way]
        context = str(lay_out(users.bob, "said", {"Dockerfile": line.format(pushed, "PATH") + "MAINTAINER x\n"}))
        words = ["build", "--progress=quiet", *arguments, context]
        there, here = proxy28.docker(users.root, *words, env=bare), proxy28.docker(users.bob, *words)
        assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)
        assert says in here.stdout + here.stderr


def test_what_its_owner_pushed_is_pulled(scene: Scene, store: Engine, proxy_of: Proxy, users: Users) -> None:
    registry, alice, bob = store.registry(), users.alice, users.bob
    name = f"{registry}/team/app:1"
    assert_done(proxy_of.docker(alice, "tag", "alices:1", name))
    assert proxy_of.docker(bob, "pull", name).returncode == 1
    failed = f"{scene.repository}:{scene.tags[0]}"  # a registry that takes nothing, and names it all the same
    assert_done(proxy_of.docker(alice, "tag", "alices:1", failed))
    assert proxy_of.docker(alice, "push", failed).returncode == 1
    assert_done(proxy_of.docker(alice, "rmi", failed))
    assert_done(proxy_of.docker(alice, "push", name))
    assert WHOSE in scene.pull(scene.people.bob, scene.tags[0]).body.decode()  # it was not pushed there
    assert_done(proxy_of.docker(bob, "pull", name))
    assert proxy_of.docker(bob, "run", "--rm", name, "cat", "/file").stdout == "a1ices-f1le\n"
    roots = f"{registry}/team/roots:1"  # nor does root need to be its owner
    assert_done(proxy_of.docker(users.root, "tag", "alices:1", roots))
    assert_done(proxy_of.docker(users.root, "push", roots))
    assert_done(proxy_of.docker(users.root, "rmi", roots))
    assert_done(proxy_of.docker(bob, "pull", roots))
    assert_done(proxy_of.docker(bob, "rmi", roots))
    several = [f"{registry}/team/several:{tag}" for tag in (1, 2)]  # of which it takes some only: see `test_withheld`
    for tag in several:
        assert_done(proxy_of.docker(alice, "tag", "alices:1", tag))
    assert_done(proxy_of.docker(alice, "push", "-a", f"{registry}/team/several"))
    assert_done(proxy_of.docker(alice, "rmi", *several))
    assert_done(proxy_of.docker(bob, "pull", several[1]))
    assert_done(proxy_of.docker(bob, "rmi", several[1]))
    # Under another name, of the same repository; and by BuildKit, which pushes what it has made.
    assert_done(proxy_of.docker(alice, "rmi", name))
    assert_done(proxy_of.docker(bob, "pull", name))
    assert proxy_of.docker(bob, "run", "--rm", name, "cat", "/file").stdout == "a1ices-f1le\n"
    context = str(lay_out(alice, "pushing", {"Dockerfile": "FROM busybox\nRUN echo pushed >/file\n"}))
    pushed = f"{registry}/team/pushed:1"
    assert_done(build(proxy_of, alice, "-t", pushed, "--push", context))
    assert_done(proxy_of.docker(bob, "pull", pushed))
    assert proxy_of.docker(bob, "run", "--rm", pushed, "cat", "/file").stdout == "pushed\n"
    assert_done(build(proxy_of, users.root, "-t", f"{registry}/team/built:1", "--push", context))
    ledger = Ledger(str(proxy_of.folder / "state" / "filesystem"))
    ledger.refresh()
    assert f"{registry}/team/built" in [name.partition(" ")[0] for name in ledger.pushes(0)]


def test_a_load_brings_what_its_archive_has(scene: Scene) -> None:
    """Not what it only names: Alice's manifest, or layers that the engine's store has already."""
    root, alice, bob = scene.people.root, scene.people.alice, scene.people.bob
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": scene.layers}}
    ).encode()
    file = f"blobs/sha256/{hashlib.sha256(config).hexdigest()}"
    layers = [f"layers/{number}.tar" for number in range(len(scene.layers))]
    manifest = [{"Config": file, "RepoTags": ["stolen:1"], "Layers": layers}]
    members = [member(file, config), *(member(name, pack([])) for name in layers)]
    if len(scene.tags) > 1:  # containerd's store goes by the index, and by manifests in it
        described = {
            "mediaType": root.get("GET", "/images/alices:1/json")["Descriptor"]["mediaType"],
            "digest": scene.id,
            "size": root.get("GET", "/images/alices:1/json")["Descriptor"]["size"],
            "annotations": {"io.containerd.image.name": "docker.io/library/stolen:1"},
        }
        index = {"schemaVersion": 2, "manifests": [described]}
        members += [member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), member("index.json", _bytes(index))]
    archive = pack([*members, member("manifest.json", _bytes(manifest))])
    root.ask("POST", "/images/load", archive)
    assert root.get("GET", "/images/stolen:1/json")["RootFS"]["Layers"] == scene.layers, "not on the bare daemon"
    root.get("DELETE", "/images/stolen:1")
    answer = bob.ask("POST", "/images/load", archive)
    assert WHOSE in answer.body.decode(), answer.body
    assert bob.ask("GET", "/images/stolen:1/json").status == 404
    assert root.ask("GET", "/images/stolen:1/json").status == 404
    whole = alice.ask("GET", "/images/alices:1/get").body.replace(b"alices:1", b"given2:1")
    assert b"given2:1" in whole
    answer = bob.ask("POST", "/images/load", whole)  # from Alice's own hands
    assert "given2:1" in answer.body.decode(), answer.body
    assert bob.get("GET", "/images/given2:1/json")["RootFS"]["Layers"] == scene.layers


def _bytes(value: object) -> bytes:
    return json.dumps(value).encode()
