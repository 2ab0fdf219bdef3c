#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the production code in known ways, one at a time, and shows that the simulation notices each.

  tests/sim/mutations.py BUILD [NAME...]   in the build directory BUILD; the sources are put back after each

Not part of CI: it builds the simulation once per mutation. A mutation whose text is not found any more has to be
written anew for the code as it is now; that is an error, too."""
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
SEEDS = 1500

# name, file, then pairs of what stands there and what stands there instead
MUTATIONS = [
    ('ack-before-sync', 'daemon/receiver/store_worker.cc',
     '  uncommitted_bytes_ += batch.size();\n',
     '  uncommitted_bytes_ += batch.size();\n'
     '  if (client_) client_->store_committed(BatchReader::peek(batch.bytes())->last_seq());\n'),
    ('journal-not-synced', 'daemon/store/store_append.cc',
     '  if (Status status = file_->sync(); !status.ok()) return fail(std::move(status).error());\n  unsynced_ = false;',
     '  unsynced_ = false;'),
    ('base-not-synced', 'daemon/store/store_append.cc',
     '    if (Status status = base_.sync(); !status.ok()) return fail(std::move(status).error());\n',
     '    base_.dirty();\n'),
    ('gap-skipped', 'daemon/replicate/gap_tracker.cc',
     '  if (losses_total > accounted_losses_) return account(losses_total);\n  return std::nullopt;',
     '  accounted_losses_ = std::max(accounted_losses_, losses_total);\n  return std::nullopt;'),
    ('gap-behind-the-event', 'daemon/replicate/gap_tracker.cc',
     '  if (event_loss_count > accounted_losses_) return account(event_loss_count);\n',
     ''),
    ('in-flight-not-subtracted', 'daemon/replicate/copier.cc',
     '    respect_in_flight(chunk, *writes);\n', ''),
    ('captured-not-subtracted', 'daemon/replicate/copier.cc',
     '    chunk.captured.add({event.offset_bytes, end});\n', '    (void)end;\n'),
    ('copy-before-its-events', 'daemon/replicate/copier.cc',
     ' || chunk.head_after > stream_position) continue;', ') continue;\n    (void)stream_position;'),
    ('copy-finished-at-send', 'daemon/replicate/replicator_stream.cc',
     '  acknowledgement_.copy_emitted(writer_.last_seq(), chunk.range);\n',
     '  tracker_.dirty().finish(chunk.range);\n'),
    ('superseded-copy-finishes', 'daemon/replicate/replicator_stream.cc',
     '    acknowledgement_.copy_superseded(range);\n', '    (void)range;\n'),
    ('ring-released-at-send', 'daemon/replicate/replicator_stream.cc',
     '  sent_seq_ = closed.last_seq;\n',
     '  sent_seq_ = closed.last_seq;\n  tracker_.release(closed.cursor.position);\n'),
    ('resume-at-seq', 'daemon/replicate/stream_writer.cc',
     '  next_seq_ = last_seq + 1;\n', '  next_seq_ = last_seq;\n'),
    ('flush-order-dropped', 'daemon/replicate/stream_writer.cc',
     '  if (event.preflush || event.kind == CaptureKind::kBarrier) {', '  if (event.kind == CaptureKind::kBarrier) {'),
    ('losses-ignored-at-reconnect', 'daemon/replicate/gap_tracker.cc',
     '  accounted_losses_ = position.cursor.loss_count;\n}', '  accounted_losses_ = ~std::uint64_t{0} >> 1;\n}'),
    ('lost-in-flight-copied', 'daemon/replicate/copier.cc',
     '  if (!lost_in_flight && !dirty) return true;\n', '  (void)lost_in_flight;\n  if (!dirty) return true;\n',
     '    if (write.lost) {\n', '    if (write.lost && write.length_bytes == 0) {\n'),
    ('missed-program-ignored', 'daemon/replicate/replicator_stream.cc',
     'return tracker_.losses().unprovable > unprovable_seen_; }', 'return false; }'),
    ('times-fall', 'daemon/replicate/stream_writer.cc',
     '  last_time_ns_ = std::max(last_time_ns_, std::min(boot_ns, now_boot_ns) + wall_offset_ns_);',
     '  last_time_ns_ = std::min(boot_ns, now_boot_ns) + wall_offset_ns_;'),
    ('claims-kept-over-sessions', 'daemon/replicate/replicator.cc',
     '  acknowledgement_.clear();\n  tracker_.dirty().unclaim_all();\n', '  acknowledgement_.clear();\n'),
    ('generation-kept-after-crash', 'daemon/replicate/session.cc',
     '  if (position.cursor.capture_id != facts.capture_id) {', '  if (position.cursor.capture_id.is_nil()) {'),
    ('loss-during-first-copy-ignored', 'daemon/replicate/gap_tracker.cc',
     '  open_ = true;\n  base_is_open_ = false;\n  reason_ = GapReason::kOverflow;',
     '  open_ = true;\n  reason_ = GapReason::kOverflow;'),
    ('window-ignored', 'daemon/replicate/replicator_stream.cc',
     '  window_open_ = queued_bytes < options_.link_window_bytes;\n', '  window_open_ = true;\n'),
    ('receiver-never-pauses', 'daemon/receiver/session_core.cc',
     '  if (queued_bytes_ >= queue_bytes_max_) paused_ = true;\n', ''),
]


def build_and_run(build: Path) -> str:
    """What the simulation says: the line with what broke, or '' when it noticed nothing."""
    made = subprocess.run(['ninja', '-C', str(build), 'tests/sim/sim'], capture_output=True, text=True)
    if made.returncode != 0:
        raise SystemExit('the mutated code does not build:\n' + made.stdout[-3000:])
    ran = subprocess.run([str(build / 'tests/sim/sim'), '--count', str(SEEDS)], capture_output=True, text=True)
    if ran.returncode == 0:
        return ''
    lines = [line for line in (ran.stdout + ran.stderr).splitlines()
             if 'is broken' in line or 'aborted' in line or 'CHECK' in line]
    return '; '.join(lines) or f'exit status {ran.returncode}'


def main() -> int:
    build = Path(sys.argv[1]).resolve()
    names = sys.argv[2:]
    missed = []
    for name, file, *texts in MUTATIONS:
        if names and name not in names:
            continue
        path = SOURCE / file
        original = path.read_text(encoding='utf-8')
        mutated = original
        for old, new in zip(texts[::2], texts[1::2]):
            if mutated.count(old) != 1:
                sys.exit(f'{name}: its text stands {mutated.count(old)} times in {file}: {old.strip()}')
            mutated = mutated.replace(old, new)
        try:
            path.write_text(mutated, encoding='utf-8')
            found = build_and_run(build)
        finally:
            path.write_text(original, encoding='utf-8')
        print(f"{name}: {found or 'NOT NOTICED'}", flush=True)
        if not found:
            missed.append(name)
    subprocess.run(['ninja', '-C', str(build), 'tests/sim/sim'], check=True, capture_output=True)
    print(f'{len(missed)} not noticed: {", ".join(missed)}' if missed else 'all noticed')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
