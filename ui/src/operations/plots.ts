// The last hour as lines. Pure.

import type { Sample } from "./queries";

export interface Plot {
  name: string;
  /** The newest value, with its unit. */
  now: string;
  /** The highest of the hour, with its unit. */
  most: string;
  /** A line for each stretch without a gap, in a box of 100 by 30. */
  lines: string[];
  bad: boolean;
}

const WIDTH = 100;
const HEIGHT = 30;
/** Samples of an hour. */
const SPAN = 240;

export function plotsOf(samples: Sample[]): Plot[] {
  return [
    plot(
      "Turns a minute",
      samples.map((s) => s.turns * 4),
      (n) => String(Math.round(n)),
    ),
    plot(
      "First word",
      samples.map((s) => s.first_word_ms),
      (n) => (n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`),
    ),
    plot(
      "Errors",
      samples.map((s) => s.failed + s.errors),
      (n) => String(n),
      true,
    ),
    plot(
      "Waiting prompts",
      samples.map((s) => s.waiting),
      (n) => String(n),
    ),
  ];
}

function plot(name: string, values: (number | null)[], say: (value: number) => string, isBad = false): Plot {
  const known = values.filter((value) => value !== null);
  const most = Math.max(0, ...known);
  const last = values.at(-1) ?? known.at(-1);
  const recent = values.slice(-SPAN);
  const lines: string[] = [];
  let line: string[] = [];
  recent.forEach((value, at) => {
    if (value === null) {
      if (line.length > 0) lines.push(line.join(" "));
      line = [];
      return;
    }
    const x = WIDTH - ((recent.length - 1 - at) * WIDTH) / (SPAN - 1);
    const y = HEIGHT - (most === 0 ? 0 : (value / most) * (HEIGHT - 2)) - 1;
    line.push(`${x.toFixed(1)},${y.toFixed(1)}`);
  });
  if (line.length > 0) lines.push(line.join(" "));
  const said = (value: number | undefined) => (value === undefined ? "–" : say(value));
  return { name, now: said(last), most: said(known.length > 0 ? most : undefined), lines, bad: isBad && most > 0 };
}
