import { expect, test } from "vitest";
import { runtimeOf, stepsOf, turnsOf } from "./phases";
import type { Block, Phase } from "./queries";

const block = (id: string, text: string): Block => ({ id, kind: "user", payload: { text } });
const phase = (name: string, at: number, blocks: Block[], metadata: Record<string, unknown> = {}): Phase => ({
  phase: name,
  created_at_ms: at,
  parsed: { blocks, metadata },
});

test("each phase is held against the one before it, in the order of time", () => {
  // The server lists the newest first; two are of one millisecond.
  const steps = stepsOf([
    phase("final", 9, [block("a", "x"), block("c", "z")], { usage: 1, model: "m" }),
    phase("post_inference", 9, [block("a", "changed"), block("b", "y")], { model: "m" }),
    phase("pre_inference", 5, [block("a", "x")]),
  ]);
  expect(steps.map(({ phase }) => phase.phase)).toEqual(["pre_inference", "post_inference", "final"]);
  expect(steps.map(({ blocks }) => blocks.map(({ block, mark }) => `${block.id} ${mark}`))).toEqual([
    ["a same"],
    ["a changed", "b new"],
    ["a changed", "c new"],
  ]);
  expect(steps.map(({ gone }) => gone.map(({ id }) => id))).toEqual([[], [], ["b"]]);
  expect(steps.map(({ notes }) => notes.map(([key]) => key))).toEqual([[], ["model"], ["usage"]]);
});

test("snapshots of one turn are one turn, the newest turn first", () => {
  const item = (turn_id: string, phase: string, created_at_ms: number) => ({
    turn_id,
    session_id: "s",
    phase,
    runtime_key: "r",
    created_at_ms,
  });
  const turns = turnsOf([item("2", "final", 9), item("2", "pre_inference", 7), item("1", "final", 3)]);
  expect(turns.map(({ turnId, beganMs, phase }) => [turnId, beganMs, phase])).toEqual([
    ["2", 7, "final"],
    ["1", 3, "final"],
  ]);
});

test("a turn ran under what its last snapshot says", () => {
  const of = (profile: string) => ({ "geppetto.runtime@v1": { profile } });
  const found = runtimeOf([phase("final", 2, [], of("new")), phase("pre_inference", 1, [], of("old"))]);
  expect(found?.profile).toBe("new");
});
