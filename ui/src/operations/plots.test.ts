import { expect, test } from "vitest";
import { plotsOf } from "./plots";

const sample = (turns: number, first_word_ms: number | null, failed = 0, waiting = 0) => ({
  at_ms: 0,
  turns,
  failed,
  first_word_ms,
  waiting,
  errors: 0,
});

test("a plot says the newest and the highest, and has a gap where nothing was said", () => {
  const [turns, first, errors, waiting] = plotsOf([sample(1, 900), sample(3, null), sample(2, 1500, 1, 4)]);
  expect([turns?.now, turns?.most]).toEqual(["8", "12"]);
  expect([first?.now, first?.most, first?.lines.length]).toEqual(["1.5 s", "1.5 s", 2]);
  expect([errors?.now, errors?.bad]).toEqual(["1", true]);
  expect(waiting?.now).toBe("4");
  // The newest sample stands at the right edge, the highest at the top.
  expect(turns?.lines[0]?.split(" ").at(-1)).toMatch(/^100.0,/);
  expect(turns?.lines[0]?.split(" ")[1]).toMatch(/,1.0$/);
});

test("nothing counted is no line and no number", () => {
  expect(plotsOf([]).map(({ now, lines, bad }) => [now, lines, bad])).toEqual(Array(4).fill(["–", [], false]));
});
