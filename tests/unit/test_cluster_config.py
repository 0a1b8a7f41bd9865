"""What the components are told. Each assertion stands for something that once did not work without it."""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from nova_cli.cluster import containerd, kubeconfig, network, node, oci, policies, toolchain
from nova_cli.cluster.controlplane import Addresses, apiserver_flags, controller_manager_flags, etcd_flags
from nova_cli.cluster.kind import config_of
from nova_cli.cluster.namespaces import join, mount_script
from nova_cli.cluster.node import FIRST, MOST_NODES, Node
from nova_cli.errors import CommandError

FOLDER = Path("/cache/clusters/nova")
NODE = Addresses(host="10.77.0.10", api_port=6443, etcd_port=2379, etcd_peer_port=2380)
ALONE = Addresses(host="127.0.0.1", api_port=40001, etcd_port=40002, etcd_peer_port=40003)


def test_a_control_plane_on_its_own_stays_on_loopback() -> None:
    flags = apiserver_flags(FOLDER, ALONE)
    assert "--bind-address=127.0.0.1" in flags
    assert "--endpoint-reconciler-type=none" in flags
    assert "--secure-port=40001" in flags
    assert all("127.0.0.1" in flag for flag in etcd_flags(FOLDER, ALONE) if "url" in flag)


def test_a_node_reaches_its_api_server_and_is_found_without_dns() -> None:
    flags = apiserver_flags(FOLDER, NODE)
    assert "--bind-address=0.0.0.0" in flags
    assert "--advertise-address=10.77.0.10" in flags
    assert "--kubelet-preferred-address-types=InternalIP" in flags


def test_admission_is_the_default_and_node_restriction() -> None:
    flags = apiserver_flags(FOLDER, NODE)
    assert "--enable-admission-plugins=NodeRestriction" in flags
    assert not any(flag.startswith("--disable-admission-plugins") for flag in flags)


def test_nothing_is_written_outside_of_the_folder() -> None:
    for flag in [*apiserver_flags(FOLDER, NODE), *controller_manager_flags(FOLDER), *etcd_flags(FOLDER, NODE)]:
        value = flag.partition("=")[2]
        assert not value.startswith("/") or value.startswith(str(FOLDER)), flag


def test_the_kubelet_stays_in_its_cgroup_and_asks_nobody_outside() -> None:
    config = json.loads(node.kubelet_config(FIRST, FOLDER / "pki", "nova-test"))
    assert config["cgroupRoot"] == "/nova-test"
    assert config["resolvConf"] == "/dev/null"
    assert config["failCgroupV1"] is False
    assert config["clusterDNS"] == [node.DNS_ADDRESS]


def test_kube_proxy_leaves_the_limits_of_the_machine_alone() -> None:
    config = json.loads(node.proxy_config(FIRST, FOLDER / "kube-proxy.kubeconfig", "10.244.0.0/16"))
    assert config["conntrack"] == {"maxPerCore": 0, "min": 0}


def test_dns_answers_for_the_cluster_only() -> None:
    corefile = node.corefile(FOLDER / "coredns.kubeconfig")
    assert "forward" not in corefile
    assert "kubernetes cluster.local in-addr.arpa" in corefile


def test_dns_objects_are_applied_where_their_names_say() -> None:
    for path, document in node.dns_objects():
        assert path.endswith(f"/{document['metadata']['name']}")
        if namespace := document["metadata"].get("namespace"):
            assert f"/namespaces/{namespace}/" in path


def test_containerd_keeps_to_folders_of_the_node() -> None:
    config = containerd.render_config(snapshotter="overlayfs")
    for setting in ('root = "/var/lib/containerd"', 'state = "/run/containerd"', "netns_mounts_under_state_dir = true"):
        assert setting in config


@pytest.mark.parametrize(("kind", "expected"), [("ext4", "overlayfs"), ("btrfs", "overlayfs"), ("overlay", "native")])
def test_overlayfs_is_not_stacked_on_itself(kind: str, expected: str) -> None:
    assert containerd.snapshotter_for(kind) == expected


def test_pods_are_routed_not_bridged() -> None:
    network = json.loads(containerd.render_network("10.244.0.0/24"))
    assert [plugin["type"] for plugin in network["plugins"]] == ["ptp", "portmap"]


def test_a_cache_in_an_ordinary_place_needs_no_putting_back() -> None:
    script = mount_script(Path("/home/me/.cache/nova/clusters/nova/fs"), [Path("/home/me/.cache/nova")])
    assert "mkdir" not in script
    assert "/proc/self/fd/9/clusters/nova/fs/var/lib /var/lib" in script


def test_what_the_covers_hide_is_put_back() -> None:
    cache, sources = Path("/var/lib/ci/cache"), Path("/var/lib/ci/my clone")
    lines = mount_script(cache / "fs", [cache, sources]).splitlines()
    assert lines[0:2] == ["exec 9< /var/lib/ci/cache", "exec 8< '/var/lib/ci/my clone'"]
    assert "mount --no-canonicalize --bind /proc/self/fd/9 /var/lib/ci/cache" in lines
    assert "mount --no-canonicalize --bind /proc/self/fd/8 '/var/lib/ci/my clone'" in lines


def test_joining_a_cgroup_keeps_the_pid() -> None:
    command = [*join(Path("/sys/fs/cgroup/x/cgroup.procs"), ["nsenter", "--"]), "etcd", "--flag"]
    assert command[:2] == ["nsenter", "--"]
    assert 'exec "$@"' in command[4]
    assert command[5:] == ["/sys/fs/cgroup/x/cgroup.procs", "etcd", "--flag"]


def test_services_have_a_route() -> None:
    assert "route add default dev node0" in network.first_script()
    assert "route add default via 10.77.0.10" in network.further_script(Node(2))


def test_nodes_share_no_name_no_address_and_no_pod_range() -> None:
    nodes = [FIRST, *FIRST.others]
    assert len(nodes) == MOST_NODES
    for facts in ([n.name for n in nodes], [n.address for n in nodes], [n.pod_range for n in nodes]):
        assert len(set(facts)) == MOST_NODES


def test_each_node_has_a_way_to_the_pods_of_all_others_and_none_to_its_own() -> None:
    script = network.further_script(Node(3))
    assert "route add 10.244.0.0/24 via 10.77.0.10\n" in script
    assert "route add 10.244.1.0/24 via 10.77.0.11\n" in script
    assert "10.244.2.0/24" not in script
    assert "route add 10.244.2.0/24 via 10.77.0.12\n" in network.first_script()


def test_each_kubelet_is_its_own_node_and_no_other() -> None:
    config = json.loads(node.kubelet_config(Node(2), FOLDER / "pki", "nova-test/node-2"))
    assert config["cgroupRoot"] == "/nova-test/node-2"
    assert config["tlsCertFile"] == f"{FOLDER}/pki/{node.credentials(Node(2))}.crt"
    assert node.credentials(Node(2)) != node.credentials(FIRST)
    flags = node.kubelet_flags(Node(2), FOLDER / "kubelet.json", FOLDER / "kubelet.kubeconfig")
    assert {"--hostname-override=node-2", "--node-ip=10.77.0.11"} <= set(flags)
    assert json.loads(node.proxy_config(Node(2), FOLDER / "x", "10.244.0.0/16"))["hostnameOverride"] == "node-2"


def test_policies_are_asked_of_what_pods_send_and_get_and_never_of_the_node_itself() -> None:
    first, *others = (line for line in policies.rules().splitlines() if line.startswith("-A"))
    assert first == "-A POSTROUTING -m owner --uid-owner 0 -j RETURN"
    assert [line.split()[1] for line in others] == ["POSTROUTING", "INPUT"]
    assert all(line.endswith(f"--ctstate NEW -j NFQUEUE --queue-num {policies.QUEUE}") for line in others)
    assert "-s 10.244.0.0/16" in others[1]  # other nodes may speak to this one


def test_what_enforces_policies_changes_nothing_in_the_cluster() -> None:
    role, binding = (document for _, document in policies.access_objects())
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "watch"}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert f"--queue={policies.QUEUE}" in policies.flags(Node(2), FOLDER / "x")
    assert "--node=node-2" in policies.flags(Node(2), FOLDER / "x")


@pytest.mark.parametrize("nodes", [1, 3])
def test_kind_makes_as_many_nodes_and_all_of_them_take_pods(nodes: int) -> None:
    (first, *others) = yaml.safe_load(config_of(nodes))["nodes"]
    assert [each["role"] for each in (first, *others)] == ["control-plane", *["worker"] * (nodes - 1)]
    assert yaml.safe_load(first["kubeadmConfigPatches"][0])["nodeRegistration"]["taints"] == []


def test_a_kubeconfig_embeds_what_it_needs(tmp_path: Path) -> None:
    for name in ("ca.crt", "admin.crt", "admin.key"):
        (tmp_path / name).write_text(name)
    document = json.loads(kubeconfig.render("https://127.0.0.1:1", tmp_path, "admin"))
    user = document["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == b"admin.key"
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"


def test_binaries_know_their_versions() -> None:
    flags = toolchain.link_flags("\tk8s.io/kubernetes v1.34.4\n\thelm.sh/helm/v3 v3.19.2 // indirect\n")
    assert "version.gitVersion=v1.34.4" in flags
    assert "version.version=v3.19.2" in flags
    with pytest.raises(CommandError, match="names no version"):
        toolchain.link_flags("module nova.dev/cluster/node\n")


def test_the_module_on_disk_is_complete() -> None:
    assert all(source.is_file() for source in [*toolchain.sources(), *toolchain.program_sources(toolchain.POLICIES)])
    assert toolchain.required_go() >= (1, 24)
    assert len(toolchain.binaries_key()) == 16


def test_an_image_of_one_file_is_consistent(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF program")
    oci.write_single_file_image(tmp_path / "pause.tar", "localhost/nova/pause:1", program)
    with tarfile.open(tmp_path / "pause.tar") as tar:
        blobs = {member.name: _read(tar, member) for member in tar.getmembers()}
    for name, content in blobs.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    entry = json.loads(blobs["index.json"])["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/nova/pause:1"
    manifest = json.loads(blobs[_blob(entry)])
    config = json.loads(blobs[_blob(manifest["config"])])
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blobs[_blob(manifest["layers"][0])])) as layer:
        assert layer.getmember("pause").mode == 0o755


def _blob(descriptor: dict[str, str]) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None
    return opened.read()
