#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Views as NBD exports, judged by other people's clients (nbdinfo, nbdcopy, qemu-img, qemu-io): every byte and every
extent is what understudy-restore makes of the point, a qcow2 on top takes writes and the view does not, a view holds
still while the journal grows and the receiver is restarted, and one whose server died is cleaned up."""

import json
import os
import signal
import subprocess
import xml.etree.ElementTree

import harness
import oracle
from daemons import CONTROL, MIB
from harness import check, program
from scenario import Protected, now_between_writes, raw_disk
from views_control import Views

DISK_BYTES = 48 * MIB


def load(case, target, disk):
    """On the front half of a disk: the back half stays empty, something to be a hole."""
    return oracle.StampRun(case, {target: f"{disk.device},length={DISK_BYTES // 2}"}, rate=6 * MIB,
                           max_bytes=128 << 10, flush_every=5)


def extents(case, uri):
    """[(offset, length, zero)], neighbours of one kind joined, as nbdinfo says."""
    joined = []
    for entry in json.loads(case.run("nbdinfo", "--json", "--map", uri).stdout):
        zero = entry["type"] == 3
        check(entry["type"] in (0, 3), f"an extent of a kind that the plugin does not know: {entry}")
        if joined and joined[-1][2] == zero:
            joined[-1] = (joined[-1][0], joined[-1][1] + entry["length"], zero)
        else:
            joined.append((entry["offset"], entry["length"], zero))
    return joined


def equals(case, uri, image):
    """Whether qemu finds the same bytes in both."""
    done = case.run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, image, status=None)
    check(done.returncode in (0, 1), f"qemu-img compare failed: {done.stdout}{done.stderr}")
    return done.returncode == 0


def check_clients(case, view, images):
    """Each disk of the view equals its image by every client."""
    for disk, image in zip(view["disks"], images):
        uri = disk["uri"]
        info = json.loads(case.run("nbdinfo", "--json", uri).stdout)["exports"][0]
        check(info["export-size"] == DISK_BYTES and info["is_read_only"] and info["can_multi_conn"],
              f"nbdinfo sees another export: {info}")
        copy = image.with_suffix(".copy")
        case.run("nbdcopy", "--connections=4", "--threads=4", uri, copy)
        case.run("cmp", image, copy)
        copy.unlink()
        check_parallel(case, uri, image)
        check(json.loads(case.run("qemu-img", "info", "--output=json", uri).stdout)["virtual-size"] == DISK_BYTES,
              "qemu-img info sees another size")
        check(equals(case, uri, image), f"{uri} is not what was restored")
        check_extents(case, uri, image)
        qcow2 = image.with_suffix(".qcow2")
        case.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, qcow2)
        case.run("qemu-img", "compare", qcow2, image)
        qcow2.unlink()


def check_parallel(case, uri, image):
    """Several clients at once, each with several connections, get the same bytes."""
    copies = [image.with_suffix(f".copy{number}") for number in range(4)]
    running = [subprocess.Popen(["nbdcopy", "--connections=4", "--threads=4", uri, copy]) for copy in copies]
    check(equals(case, uri, image), f"{uri} is not what was restored while others read it")
    for client, copy in zip(running, copies):
        check(client.wait() == 0, "a parallel nbdcopy failed")
        case.run("cmp", image, copy)
        copy.unlink()


def check_cache(case, protected):
    """The plugin's file for what it decoded: where it may not be is said; without one, and with a small one, the bytes
    are the same, and nothing is left behind."""
    plugin = program("tools/nbdkit/nbdkit-understudy-plugin.so")
    store = protected.receiver.store
    place = case.directory / "cache"
    place.mkdir()
    for words, text in (([f"cache={case.directory}/missing"], "parameter 'cache': free space of"),
                        (["cache_bytes=7"], "wanted 0 (no cache file) or a size of at least 16MiB"),
                        (["cache_size=7"], "unknown parameter 'cache_size'")):
        said = case.run("nbdkit", "--unix", "-", plugin, store, *words, "--run", "true", status=1).stderr
        check(text in said, f"{words}: the refusal does not say '{text}': {said}")
    images = []
    for words in (["cache_bytes=0"], [f"cache={place}", "cache_bytes=16MiB"]):
        images.append(case.directory / f"cache-{len(images)}.raw")
        case.run("nbdkit", "--unix", "-", "--readonly", plugin, store, "disk=0", *words, "--run",
                 f'nbdcopy "$uri" {images[-1]} && ls -A {place}')
    case.run("cmp", *images)
    check(not list(place.iterdir()), "the cache has a name")
    for image in images:
        image.unlink()


def check_extents(case, uri, image):
    """The map covers the disk, what it calls a hole is zeros, and qemu sees the same."""
    found = extents(case, uri)
    check(found[0][0] == 0 and sum(length for _, length, _ in found) == DISK_BYTES, f"the map has gaps: {found[:5]}")
    check(any(zero for _, _, zero in found) and any(not zero for _, _, zero in found),
          f"the disk has data and holes, the map has not: {found[:5]}")
    with open(image, "rb") as file:
        for offset, length, zero in found:
            if zero:
                file.seek(offset)
                check(not any(file.read(length)), f"the hole of {length} bytes at {offset} has data")
    seen = json.loads(case.run("qemu-img", "map", "--output=json", uri).stdout)
    check(sum(entry["length"] for entry in seen if not entry["zero"]) ==
          sum(length for _, length, zero in found if not zero), "qemu-img map sees other extents than nbdinfo")


def check_overlay(case, view, image):
    """A qcow2 backed by the view is written to and read from; below it nothing changes, and nothing may."""
    uri = view["disks"][0]["uri"]
    overlay = case.directory / "overlay.qcow2"
    case.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", uri, "-F", "raw", overlay)
    case.run("qemu-io", "-c", "write -P 0x5a 4096 65536", "-c", "read -P 0x5a 4096 65536", "-c", "flush", overlay)
    done = case.run("qemu-img", "compare", overlay, image, status=None)
    check(done.returncode == 1, f"the overlay is not other than the view: {done.stdout}{done.stderr}")
    check(equals(case, uri, image), "a write to the overlay changed the view")
    refused = case.run("qemu-io", "-f", "raw", "-c", "write -P 1 0 512", uri, status=None)
    check(refused.returncode != 0, "the view could be written to")


def check_restore(case, protected, views, held, images):
    """Into a qcow2, a raw file and a device; what has content, or is mounted, is refused."""
    word = views.word(held["seq"])
    target = case.directory / "restored.qcow2"
    views.control("restore", word, "--to", target, "--disk", "0", *views.receiver())
    check(json.loads(case.run("qemu-img", "info", "--output=json", target).stdout)["format"] == "qcow2", "no qcow2")
    case.run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", target, images[0])
    again = views.control("restore", word, "--to", target, "--disk", "0", *views.receiver(), status=1)
    check("exists; give another name, or --overwrite" in again.stderr, again.stderr)
    views.control("restore", word, "--to", target, "--disk", "1", "--overwrite", *views.receiver())
    case.run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", target, images[1])
    several = views.control("restore", word, "--to", case.directory / "all.qcow2", *views.receiver(), status=2)
    check("several disks: 0 (" in several.stderr, several.stderr)
    check(not list(case.directory.glob("*.partial")) and not (case.directory / "all.qcow2").exists(), "files are left")
    raw = case.directory / "restored.raw"
    views.control("restore", word, "--to", raw, "--disk", "0", *views.receiver())
    case.run("cmp", raw, images[0])
    device = raw_disk(case, "target", DISK_BYTES)
    refused = views.control("restore", word, "--to", device.device, "--format", "qcow2", "--disk", "0",
                            *views.receiver(), status=2)
    check("is no file" in refused.stderr, refused.stderr)
    views.control("restore", word, "--to", device.device, "--disk", "0", *views.receiver())
    case.run("cmp", device.device, images[0])
    check([view["view"] for view in views.list()] == [held["view"]], "a restore left its view open")


def check_points(case, protected, views):
    """The list by the server's name, and the plots."""
    listed = json.loads(case.run(program(CONTROL), "points", protected.server, "--json", *views.receiver()).stdout)
    check(listed["server"]["name"] == protected.server and [mark["name"] for mark in listed["marks"]] ==
          ["before-upgrade"], f"the list of the server is another: {listed}")
    text = case.run(program(CONTROL), "points", protected.server, "--plot", *views.receiver()).stdout
    check("change rate of" in text and "^" in text.splitlines()[-1], f"the plot lacks the mark:\n{text}")
    case.say("\n" + text)
    svg = case.run(program(CONTROL), "points", protected.receiver.store, "--plot=svg").stdout
    tree = xml.etree.ElementTree.fromstring(svg)
    bars = [item for item in tree.iter() if item.get("fill") == "#3367d6"]
    check(len(bars) > 10, f"the picture has {len(bars)} bars")


def check_holds_still(case, protected, views, held, images):
    """New writes and a restart of the receiver change nothing; what follows is another view."""
    later = load(case, 2, protected.disks[0])
    later.wait_for(200)
    protected.receiver.stop()
    check(equals(case, held["disks"][0]["uri"], images[0]), "the view changed while the receiver was away")
    protected.receiver.config["scrub"] = {"every": "1s"}
    protected.receiver.start()
    scrub = case.wait_until("the store was scrubbed while it is written to",
                            lambda: (lambda found: found if found["passes"] >= 2 else None)(
                                protected.receiver.store_status()["scrub"]))
    check(scrub["damages_total"] == 0 and not scrub["last_error"] and scrub["bytes"] > 0, f"the scrub says {scrub}")
    later.stop()
    protected.agent.wait_caught_up()
    for disk, image in zip(held["disks"], images):
        check(equals(case, disk["uri"], image), "the view changed with new writes")
    now = views.open("latest", "--disk", "0")
    check(now["seq"] > held["seq"] and len(now["disks"]) == 1, f"a later view is no other: {now}")
    check(not equals(case, now["disks"][0]["uri"], images[0]), "the newest view lacks what was written")
    views.control("view", "close", now["view"])


def check_registry(case, protected, views, held):
    """List, close, the death of a server, and a second view of the same point."""
    second = views.open(held["seq"])
    check([view["view"] for view in views.list()] == [held["view"], second["view"]], "the list lacks a view")
    pid = int((views.directory / str(second["view"]) / "nbd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    case.wait_until("the killed server is gone", lambda: not os.path.exists(f"/proc/{pid}/cwd"))
    done = views.control("view", "list")
    check("had lost its server: removed" in done.stderr, f"the dead view was not told of: {done.stderr}")
    check(not (views.directory / str(second["view"])).exists(), "the dead view left files")
    views.control("view", "close", held["view"])
    check(views.list() == [], "a closed view is still listed")
    check(not os.path.exists(held["disks"][0]["socket"]), "a closed view left its socket")


def check_refusals(protected, views):
    for point, text in (("seq:999999999", "in the future"), ("2001-01-01 00:00:00", "before history"),
                        ("nonesuch", "the newest marks are '@before"),
                        ("before-upgrad", "did you mean '@before-upgrade'"),
                        ("25:61:00", "is not a point"), ("-0x", "is not a point")):
        said = views.refused(point)
        check(text in said, f"the refusal of '{point}' does not say '{text}'")
    check("there is no disk '7'" in views.refused("latest", "--disk", "7"), "a disk that is not there was not named")
    said = views.control("view", "open", "web-0@latest", "--config", protected.receiver.config_path, status=1).stderr
    check("has no store of server 'web-0'" in said and protected.server in said, f"unhelpful: {said}")
    said = views.control("view", "open", "web-0@latest", "--store", protected.receiver.store, status=2).stderr
    check(f"is the store of server '{protected.server}'" in said, f"another server's store was not refused: {said}")
    check(views.list() == [], "a refused view was left behind")


def test(case):
    disks = [raw_disk(case, name, size_bytes=DISK_BYTES) for name in ("first", "second")]
    run = load(case, 1, disks[0])
    protected = Protected(case, disks, agent_allowed=["retrying"])
    views = Views(case, protected)
    protected.start()
    now_between_writes(run)
    case.run(program(CONTROL), "--socket", protected.agent.socket, "mark", "before-upgrade", "--wait")
    run.wait_for(50)
    run.stop()
    case.run("dd", "if=/dev/urandom", f"of={disks[1].device}", "bs=1M", "count=7", "seek=11", "oflag=direct",
             "conv=fsync", "status=none")
    protected.agent.wait_caught_up()
    check_refusals(protected, views)
    marked = views.open("before-upgrade")
    images = protected.restore_all("@before-upgrade", "marked")
    for disk, image in zip(marked["disks"], images):
        check(equals(case, disk["uri"], image), "the view of a mark is not what was restored")
        image.unlink()
    views.control("view", "close", marked["view"])
    held = views.open("latest")
    images = protected.restore_all(f"seq:{held['seq']}", "held")
    check_clients(case, held, images)
    check_overlay(case, held, images[0])
    check_cache(case, protected)
    check_restore(case, protected, views, held, images)
    check_points(case, protected, views)
    check_holds_still(case, protected, views, held, images)
    check_registry(case, protected, views, held)


harness.main(test)
