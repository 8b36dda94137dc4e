// What the status page asks, and what it starts.

import { queryOptions } from "@tanstack/react-query";
import { ask, askJson, BASE, type Release } from "../api";
import type { components } from "../api-types";
import type { Change } from "../profiles/queries";
import { parsed } from "./metrics";

export interface Line {
  at_ms: number;
  level: string;
  target: string;
  message: string;
  [field: string]: unknown;
}

export interface Setting {
  name: string;
  value: unknown;
  origin: string;
}

/** Changes that are shown, and log lines. */
const SHOWN = 20;

export const release = queryOptions({ queryKey: ["release"], queryFn: () => askJson<Release>("api/chat/release") });
export const ready = queryOptions({
  queryKey: ["ready"],
  queryFn: async () => {
    const response = await fetch(`${BASE}readyz`);
    return (await response.json()) as { status: string; registry: string; chat: string };
  },
  refetchInterval: 5_000,
});
export const metrics = queryOptions({
  queryKey: ["metrics"],
  queryFn: async () => parsed(await (await ask("metrics")).text()),
  refetchInterval: 5_000,
});
export const settings = queryOptions({ queryKey: ["settings"], queryFn: () => askJson<Setting[]>("api/ops/config") });
export const logs = queryOptions({
  queryKey: ["logs"],
  queryFn: async () => {
    const of = (level: string) => askJson<Line[]>(`api/ops/logs?limit=${SHOWN}&level=${level}`);
    const [errors, warnings] = await Promise.all([of("error"), of("warn")]);
    return [...errors, ...warnings].sort((one, other) => other.at_ms - one.at_ms).slice(0, SHOWN);
  },
  refetchInterval: 5_000,
});
export const changes = (revision: number) =>
  queryOptions({
    queryKey: ["audit", revision],
    queryFn: () => askJson<Change[]>(`api/chat/audit?limit=${SHOWN}&after=${Math.max(0, revision - SHOWN)}`),
  });

export type Sample = components["schemas"]["Sample"];
export type Snapshot = components["schemas"]["Snapshot"];

export const samples = queryOptions({
  queryKey: ["samples"],
  queryFn: () => askJson<Sample[]>("api/ops/samples"),
  refetchInterval: 15_000,
});

export const snapshots = queryOptions({
  queryKey: ["snapshots"],
  queryFn: () => askJson<Snapshot[]>("api/ops/snapshots"),
});

export const takeSnapshot = () => ask("api/ops/snapshots", { method: "POST" });

export const packet = async (profile: string): Promise<Blob> =>
  (await ask("api/ops/packet", { method: "POST", body: { profile } })).blob();

/** What one check found. */
export interface Finding {
  code: string;
  line: number;
  proves: string;
  verdict: "pass" | "fail" | "inconclusive" | "error";
  evidence: string;
  hint: string;
  took_ms: number;
}

export interface Verdict {
  verdict: "go" | "no-go";
  reasons: string[];
}

/** Runs the checks; tells every finding as it comes. */
export async function check(onFinding: (finding: Finding) => void): Promise<Verdict> {
  const { body } = await ask("api/ops/check", { method: "POST" });
  if (!body) throw new Error("the answer has no body");
  let verdict: Verdict | null = null;
  for await (const line of linesOf(body)) {
    const said = JSON.parse(line) as Finding | Verdict;
    if ("code" in said) onFinding(said);
    else verdict = said;
  }
  if (!verdict) throw new Error("the checks ended without a verdict");
  return verdict;
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop() ?? "";
    yield* lines.filter((line) => line.trim() !== "");
    if (done) break;
  }
  if (rest.trim() !== "") yield rest;
}
