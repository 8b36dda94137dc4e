// What the profile pages ask the server for, and how they write.

import { queryOptions } from "@tanstack/react-query";
import { ask, askJson } from "../api";
import type { components } from "../api-types";
import type { Document, Draft } from "./draft";
import { bodyOf } from "./draft";

export type Difference = components["schemas"]["Difference"];
export type Change = components["schemas"]["Change"];

/** A JSON Schema as far as forms read it. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  enum?: unknown[];
  default?: unknown;
  minimum?: number;
  maximum?: number;
}

export interface MiddlewareSchema {
  name: string;
  display_name?: string;
  description?: string;
  schema: Schema;
}

export interface ToolSchema {
  name: string;
  description: string;
  schema: Schema;
}

const of = (slug: string) => `api/chat/profiles/${encodeURIComponent(slug)}`;

export const read = (slug: string) => askJson<Document>(of(slug));

/** How soon a change that others make is seen, in milliseconds; at the latest before one saves. */
const OTHERS = 15_000;

/** Null once it was deleted here: nobody has to ask. */
export const profile = (slug: string) =>
  queryOptions({
    queryKey: ["profile", slug],
    queryFn: ({ signal }): Promise<Document | null> => askJson<Document>(of(slug), { signal }),
    refetchInterval: ({ state }) => (state.data ? OTHERS : false),
  });

export const middlewares = queryOptions({
  queryKey: ["schemas", "middlewares"],
  queryFn: () => askJson<MiddlewareSchema[]>("api/chat/schemas/middlewares"),
  staleTime: Number.POSITIVE_INFINITY,
});

export const tools = queryOptions({
  queryKey: ["schemas", "tools"],
  queryFn: () => askJson<ToolSchema[]>("api/chat/schemas/tools"),
  staleTime: Number.POSITIVE_INFINITY,
});

export const extensions = queryOptions({
  queryKey: ["schemas", "extensions"],
  queryFn: () => askJson<{ key: string; schema: Schema }[]>("api/chat/schemas/extensions"),
  staleTime: Number.POSITIVE_INFINITY,
});

export const history = (slug: string) =>
  queryOptions({
    queryKey: ["profile", slug, "history"],
    queryFn: ({ signal }) => askJson<Change[]>(`${of(slug)}/versions`, { signal }),
  });

export const compared = (slug: string, from: number, to: number) =>
  queryOptions({
    queryKey: ["profile", slug, "diff", from, to],
    queryFn: async ({ signal }) =>
      (await askJson<{ changes: Difference[] }>(`${of(slug)}/diff?from=${from}&to=${to}`, { signal })).changes,
  });

/** What saving would change; refusals say what is wrong, or that somebody else was faster. */
export async function preview(
  slug: string,
  draft: Draft,
  expected_version: number,
  signal: AbortSignal,
): Promise<Difference[]> {
  const body = { ...bodyOf(draft), expected_version };
  return (await askJson<{ changes: Difference[] }>(`${of(slug)}/diff`, { method: "POST", body, signal })).changes;
}

/** Whether a new profile would be taken. */
export const rehearse = (slug: string, draft: Draft, signal: AbortSignal) =>
  ask("api/chat/profiles?dry_run=1", { method: "POST", body: { slug, ...bodyOf(draft) }, signal });

export const create = (slug: string, draft: Draft, note: string) =>
  askJson<Document>("api/chat/profiles", { method: "POST", body: { slug, ...bodyOf(draft), note } });

export const update = (slug: string, draft: Draft, expected_version: number, note: string) =>
  askJson<Document>(of(slug), { method: "PATCH", body: { ...bodyOf(draft), expected_version, note } });

export const unlock = (slug: string, draft: Draft) =>
  askJson<Document>(of(slug), { method: "PATCH", body: { policy: { ...draft.policy, read_only: false } } });

export const restore = (slug: string, version: number, expected_version: number) =>
  askJson<Document>(`${of(slug)}/restore`, { method: "POST", body: { version, expected_version } });

export const makeDefault = (slug: string) => ask(`${of(slug)}/default`, { method: "POST" });
export const remove = (slug: string) => ask(of(slug), { method: "DELETE" });

/** A prompt under the profile as it is being written. */
export const tryOut = (slug: string, draft: Draft, conv_id: string, prompt: string, idempotency_key: string) =>
  askJson(`${of(slug)}/try`, { method: "POST", body: { profile: bodyOf(draft), conv_id, prompt, idempotency_key } });
