// Snapshots of a turn side by side: what each phase added or changed. Pure.

import type { Block, Phase, Runtime, TurnItem } from "./queries";

/** What the phases are called, in the order in which they come. */
const WORDS: Record<string, string> = {
  pre_inference: "Sent to the model",
  post_inference: "What the model answered",
  post_tools: "After the tools",
  final: "Stored at the end",
};

export function wordsOf(phase: string): string {
  return WORDS[phase] ?? phase.replaceAll("_", " ");
}

export interface Marked {
  block: Block;
  mark: "new" | "changed" | "same";
}

export interface Step {
  phase: Phase;
  blocks: Marked[];
  /** Blocks that the phase before had, and this one has not. */
  gone: Block[];
  /** Keys of the turn's own data and metadata that are new or other than before. */
  notes: [string, unknown][];
}

/** Phases in their order, each held against the one before it. */
export function stepsOf(phases: Phase[]): Step[] {
  const ordered = phases
    .map((phase, at) => ({ phase, at }))
    // The list has the newest first; of two in one millisecond that order counts.
    .sort((one, other) => one.phase.created_at_ms - other.phase.created_at_ms || other.at - one.at)
    .map(({ phase }) => phase);
  return ordered.map((phase, at) => {
    const before = ordered[at - 1]?.parsed;
    const known = new Map((before?.blocks ?? []).map((block) => [block.id, JSON.stringify(block)]));
    const blocks = phase.parsed.blocks.map((block): Marked => {
      const was = known.get(block.id);
      const mark = was === undefined ? "new" : was === JSON.stringify(block) ? "same" : "changed";
      return { block, mark: before ? mark : "same" };
    });
    const here = new Set(phase.parsed.blocks.map((block) => block.id));
    const gone = (before?.blocks ?? []).filter((block) => !here.has(block.id));
    const all = { ...phase.parsed.data, ...phase.parsed.metadata };
    const old: Record<string, unknown> = { ...before?.data, ...before?.metadata };
    const notes = Object.entries(all).filter(([key, value]) => JSON.stringify(old[key]) !== JSON.stringify(value));
    return { phase, blocks, gone, notes };
  });
}

export interface Turn {
  turnId: string;
  sessionId: string;
  runtimeKey: string;
  beganMs: number;
  /** How far it is. */
  phase: string;
}

/** Turns of a list of snapshots, the newest first. */
export function turnsOf(items: TurnItem[]): Turn[] {
  const turns = new Map<string, Turn>();
  for (const item of items) {
    const known = turns.get(item.turn_id);
    if (known) known.beganMs = Math.min(known.beganMs, item.created_at_ms);
    else {
      turns.set(item.turn_id, {
        turnId: item.turn_id,
        sessionId: item.session_id,
        runtimeKey: item.runtime_key,
        beganMs: item.created_at_ms,
        phase: item.phase,
      });
    }
  }
  return [...turns.values()].sort((one, other) => other.beganMs - one.beganMs);
}

/** What a turn ran under, as its last snapshot says. */
export function runtimeOf(phases: Phase[]): Runtime | undefined {
  const [last] = [...phases].sort((one, other) => other.created_at_ms - one.created_at_ms);
  return last?.parsed.metadata["geppetto.runtime@v1"] as Runtime | undefined;
}

/** The words of a block: its text, else what it holds as JSON. */
export function textOf(block: Block): string {
  const text = block.payload?.text;
  return typeof text === "string" ? text : JSON.stringify(block.payload ?? {}, null, 2);
}
