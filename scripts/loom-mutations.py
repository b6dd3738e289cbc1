#!/usr/bin/env python3
"""Shows that the Loom tests can fail: breaks the code in one place at a time, and runs the test that is to notice.

    scripts/loom-mutations.py [NAME]...      writes csp-core/loom-mutations.md; with names, runs those and prints them

Works on a copy of the sources below target/. A mutation whose text is not in the source any more, or that no test
notices, is an error.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "loom-mutations"
RESULT = ROOT / "csp-core" / "loom-mutations.md"

# Protocol, name, file below csp-core/src, what is broken in words, the text, what replaces it, the test.
MUTATIONS = [
    (
        "identities in glibc's list", "list-no-lock", "slot/loom_tests.rs",
        "glibc's lock is not passed through",
        "    drop(process.lock.lock().unwrap());\n", "",
        "loom_tests::a_library_loaded_meanwhile",
    ),
    (
        "identities in glibc's list", "list-no-fence", "slot/loom_tests.rs",
        "no fence between the copy and the comparison",
        "process.new.store(value, Ordering::Release);\n        fence(Ordering::SeqCst);\n",
        "process.new.store(value, Ordering::Release);\n",
        "loom_tests::a_library_loaded_meanwhile",
    ),
    (
        "identities in glibc's list", "list-no-comparison", "slot/loom_tests.rs",
        "the copy is not compared",
        "if process.first.load(Ordering::Acquire) == process.new.load(Ordering::Acquire) {\n            break;\n        }",
        "break;",
        "loom_tests::a_library_loaded_meanwhile",
    ),
    (
        "worker's processor against its taker", "hold-no-barrier", "sched/hold.rs",
        "`enter` without its barrier between the store and the load",
        "        // Pairs with the heavy barrier in `freeze`.\n        barrier::light();\n", "",
        "loom_runtime_code_against_a_thief",
    ),
    (
        "worker's processor against its taker", "hold-no-look", "sched/hold.rs",
        "`freeze` does not look whether runtime code runs",
        "self.in_runtime.load(Ordering::Acquire) || !held()", "!held()",
        "loom_runtime_code_against_a_thief",
    ),
    (
        "worker's processor against its taker", "hold-weak-leave", "sched/hold.rs",
        "`leave` is Relaxed",
        "self.in_runtime.store(false, Ordering::Release);", "self.in_runtime.store(false, Ordering::Relaxed);",
        "loom_runtime_code_against_a_thief",
    ),
    (
        "sleep against wake", "sleep-no-barrier", "sched/sleepers.rs",
        "`lie_down` without its barrier",
        "        // Pairs with the light barrier in `notify`.\n        barrier::heavy();\n", "",
        "loom_work_against_sleep",
    ),
    (
        "sleep against wake", "notify-no-barrier", "sched/sleepers.rs",
        "`notify` without its barrier",
        "        // Pairs with the heavy barrier in `lie_down`.\n        barrier::light();\n", "",
        "loom_work_against_sleep",
    ),
    (
        "sleep against wake", "search-for-nothing", "sched/sleepers.rs",
        "a search that finds no idle processor is given up without a second look",
        "if self.idle.load(Ordering::Relaxed) == 0 {\n                break;\n            }", "break;",
        "loom_who_finds_work_wakes_the_next",
    ),
    (
        "sleep against wake", "found-no-second-look", "sched/sleepers.rs",
        "who has found something looks for more before it says that it searches no longer",
        "        self.stop_searching();\n        // Before the barrier",
        "        let seen = more();\n        let more = || seen;\n        self.stop_searching();\n        // Before the barrier",
        "loom_who_finds_work_wakes_the_next",
    ),
    (
        "sleep against wake", "sleep-spare", "sched/sleepers.rs",
        "the last one to lie down, with processors to spare, does not look at the queues",
        "self.idle() > spare()", "self.idle() > spare() + 1",
        "loom_what_is_left_behind_is_found_by_the_last_to_lie_down",
    ),
    (
        "deque", "deque-last", "sched/deque.rs",
        "the owner takes the last one without racing for it",
        "if self.top.0.compare_exchange(top, top.wrapping_add(1), Ordering::SeqCst, Ordering::Relaxed).is_ok() {",
        "{ self.top.0.store(top.wrapping_add(1), Ordering::SeqCst);",
        "loom_deque_last_element",
    ),
    (
        "run queue", "queue-weak-push", "sched/run_queue.rs",
        "`push` publishes the tail Relaxed",
        "self.tail.store(tail.wrapping_add(1), Ordering::Release);", "self.tail.store(tail.wrapping_add(1), Ordering::Relaxed);",
        "loom_run_queue_push_pop_steal",
    ),
    (
        "run queue", "queue-blind-pop", "sched/run_queue.rs",
        "`pop` moves the head with a store",
        "match self.head.compare_exchange_weak(head, head.wrapping_add(1), Ordering::AcqRel, Ordering::Acquire) {",
        "self.head.store(head.wrapping_add(1), Ordering::Release);\n            match Ok::<u32, u32>(head) {",
        "loom_run_queue_two_thieves",
    ),
    (
        "wait group", "group-weak-out", "sync/wait_group.rs",
        "a goroutine is counted out Relaxed",
        "this.state.fetch_sub(GOROUTINE, Ordering::AcqRel)", "this.state.fetch_sub(GOROUTINE, Ordering::Relaxed)",
        "loom_wait_group_counts_out_against_wait",
    ),
    (
        "wait group", "group-no-second-look", "sync/wait_group.rs",
        "`wait` does not look at the count again when it has said that it waits",
        "        if old <= WAITING {\n", "        if false {\n",
        "loom_wait_group_counts_out_against_wait",
    ),
    (
        "close against send and receive", "close-wakes-nobody", "chan/raw.rs",
        "`close` does not claim the receivers that wait",
        "            self.receivers.claim_all_closed(woken);\n", "",
        "loom_drop_of_the_last_sender_against_recv",
    ),
    (
        "drop of the last handle against a blocked peer", "drop-wakes-nobody", "chan/raw.rs",
        "the senders that wait are not claimed",
        "            self.senders.claim_all_closed(woken);\n", "",
        "loom_drop_of_the_last_receiver_against_send",
    ),
    (
        "rendezvous", "ready-before-message", "chan/raw.rs",
        "a receive uses the sender's frame after it has made it ready",
        "                        sender.use_frame();\n                        parker.ready();\n", "                        parker.ready();\n                        sender.use_frame();\n",
        "loom_rendezvous",
    ),
    (
        "buffered send and receive", "no-refill", "chan/raw.rs",
        "a receive from a full buffer does not move on the message of the sender that waits",
        "                    if core.senders.is_empty() {\n                        core.set_len(len, len - 1);",
        "                    if true {\n                        core.set_len(len, len - 1);",
        "loom_room_in_the_buffer_goes_to_the_sender_that_waits",
    ),
    (
        "park against ready", "baton-weak", "primitive.rs",
        "the baton is handed over Relaxed",
        "self.state.swap(HERE, Ordering::Release) == AWAITED", "self.state.swap(HERE, Ordering::Relaxed) == AWAITED",
        "loom_a_baton_handed_over_twice_loses_nothing",
    ),
    (
        "park against ready", "baton-no-lock", "primitive.rs",
        "the baton's giver does not wait until its taker sleeps",
        "            drop(self.sleep.lock());\n", "",
        "loom_rendezvous",
    ),
    (
        "timed-out waiter against hand-over", "late-claim", "sched/park.rs",
        "who is out of time but claimed goes on without waiting for the claimer",
        "            if !baton.wait_until(deadline) && !parker.try_claim(ticket, TIMED_OUT) {\n                baton.wait();\n            }",
        "            _ = !baton.wait_until(deadline) && !parker.try_claim(ticket, TIMED_OUT);",
        "loom_timed_receiver_against_hand_over",
    ),
    (
        "timed-out waiter against hand-over", "timeout-leaves-waiter", "chan/raw.rs",
        "who is out of time leaves its waiter in the queue",
        "                if waiter.is_linked() {\n                    queue.unlink(&waiter);\n                }\n", "",
        "loom_timed_receiver_against_hand_over",
    ),
    (
        "select with a timeout against a sender", "claim-twice", "sched/park.rs",
        "a wait is claimed by a load and a store",
        "self.word.compare_exchange(open, open | u64::from(outcome), Ordering::AcqRel, Ordering::Relaxed).is_ok()",
        "self.word.load(Ordering::Relaxed) == open && {\n            self.word.store(open | u64::from(outcome), Ordering::Release);\n            true\n        }",
        "loom_select_with_timeout_against_sender",
    ),
    (
        "select against select", "claim-twice-select", "sched/park.rs",
        "a wait is claimed by a load and a store",
        "self.word.compare_exchange(open, open | u64::from(outcome), Ordering::AcqRel, Ordering::Relaxed).is_ok()",
        "self.word.load(Ordering::Relaxed) == open && {\n            self.word.store(open | u64::from(outcome), Ordering::Release);\n            true\n        }",
        "loom_two_wakers_claim_a_select_once",
    ),
    (
        "select against select", "select-no-second-look", "select/mod.rs",
        "a select does not look again under the locks before it waits",
        "    if found != 0 {\n        let chosen = ready[draw(order, found)] as usize;", "    if false {\n        let chosen = ready[draw(order, found)] as usize;",
        "loom_select_against_select_in_both_roles",
    ),
    (
        "select against select", "select-leaves-waiters", "select/mod.rs",
        "a select that ends leaves its other waiters in their queues",
        "                if (*waiter).is_linked() {", "                if false {",
        "loom_select_against_select_in_both_roles",
    ),
    (
        "offers", "reserved-is-room", "chan/raw.rs",
        "reserved places are taken for room",
        "len + (self.reserved.get() as usize) < self.cap", "len < self.cap",
        "loom_reserved_room_is_not_taken_by_another",
    ),
    (
        "offers", "abandoned-is-done", "chan/raw/grant.rs",
        "the receiver of an abandoned grant is told that it has a message",
        "                parker.revise(ABANDONED);\n", "",
        "loom_a_given_up_offer_keeps_no_receiver",
    ),
]


def message(output: str) -> str:
    """The line in which Loom, or the test, says what is wrong."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    for at, line in enumerate(lines):
        if re.search(r"panicked at .*:\d+:\d+:$", line) and at + 1 < len(lines):
            return lines[at + 1]
        if "Causality violation" in line:
            return line
    return next((line for line in lines if "signal:" in line), "")


def run(mutation) -> str:
    _, name, file, _, before, after, test = mutation
    path = COPY / "csp-core" / "src" / file
    source = path.read_text()
    if source.count(before) != 1:
        sys.exit(f"{name}: its text is {source.count(before)} times in {file}")
    path.write_text(source.replace(before, after))
    try:
        result = subprocess.run(
            ["cargo", "test", "--package", "csp-core", "--release", "--lib", "--quiet", test],
            cwd=COPY, capture_output=True, text=True, timeout=600,
            env={
                **__import__("os").environ, "RUST_BACKTRACE": "0", "CARGO_TERM_COLOR": "never",
                "RUSTFLAGS": "--cfg csp_loom -Awarnings", "CARGO_TARGET_DIR": str(ROOT / "target" / "loom-mutations-target"),
            },
        )
    finally:
        path.write_text(source)
    output = result.stdout + result.stderr
    if "error[E" in output or "could not compile" in output:
        sys.exit(f"{name}: does not compile\n{output}")
    if result.returncode == 0:
        sys.exit(f"{name}: {test} did not notice\n{output}")
    return message(output)


def main():
    names = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not names or m[1] in names]
    if COPY.exists():
        shutil.rmtree(COPY)
    ignore = shutil.ignore_patterns("target", ".git")
    shutil.copytree(ROOT, COPY, ignore=ignore)
    rows = []
    for mutation in chosen:
        protocol, name, file, words, _, _, test = mutation
        said = run(mutation)
        print(f"{name}: {test}: {said}", flush=True)
        rows.append(f"| {protocol} | {words} (`{file}`) | `{test}` | {said.replace('|', chr(92) + '|')} |")
    if names:
        return
    RESULT.write_text(
        "# What the Loom tests notice\n\n"
        "Each line is a change that breaks the code in one place, the test that failed for it, and what Loom or the test said.\n"
        "Made by `scripts/loom-mutations.py`, which makes each change in a copy and fails where no test notices.\n\n"
        "| protocol | what is broken | noticed by | with the message |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


main()
