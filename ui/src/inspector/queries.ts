// What the inspector asks the debug API.

import { queryOptions } from "@tanstack/react-query";
import { ask, askJson } from "../api";
import type { ConversationItem } from "../chat/queries";

export interface Glance {
  conv_id: string;
  session_id: string;
  current_runtime_key: string;
  active_sockets: number;
  stream_running: boolean;
  queue_depth: number;
  buffered_events: number;
  last_activity_ms: number;
}

export interface Block {
  id: string;
  kind: string;
  role?: string;
  payload?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
}

export interface Runtime {
  runtime_key: string;
  registry?: string;
  profile?: string;
  profile_version?: number;
  fingerprint?: string;
}

export interface Phase {
  phase: string;
  created_at_ms: number;
  inference_id?: string;
  parsed: { blocks: Block[]; metadata: Record<string, unknown>; data?: Record<string, unknown> };
}

/** A turn as the list has it. */
export interface TurnItem {
  turn_id: string;
  session_id: string;
  phase: string;
  runtime_key: string;
  created_at_ms: number;
}

export interface Origin {
  field: string;
  value: unknown;
  said: { by: string; value: unknown }[];
}

export interface Held {
  seq: number;
  type: string;
  id: string;
  frame: { event: Record<string, unknown> };
}

/** Frames that are asked for at a time. */
const FRAMES = 500;

export const glances = queryOptions({
  queryKey: ["debug", "conversations"],
  queryFn: async ({ signal }) => (await askJson<{ items: Glance[] }>("api/debug/conversations", { signal })).items,
  refetchInterval: 3_000,
});

/** Titles of the latest conversations, by id. */
export const titles = queryOptions({
  queryKey: ["conversations", "titles"],
  queryFn: async ({ signal }) => {
    const found = await askJson<ConversationItem[]>("api/chat/conversations?limit=500", { signal });
    return new Map(found.map((item) => [item.conv_id, item.title]));
  },
});

export const turns = (convId: string) =>
  queryOptions({
    queryKey: ["debug", "turns", convId],
    queryFn: async ({ signal }) => {
      const path = `api/debug/turns?limit=1000&conv_id=${encodeURIComponent(convId)}`;
      return (await askJson<{ items: TurnItem[] }>(path, { signal })).items;
    },
    refetchInterval: 3_000,
  });

export const turn = (convId: string, sessionId: string, turnId: string) =>
  queryOptions({
    queryKey: ["debug", "turn", turnId],
    queryFn: async ({ signal }) => {
      const path = [convId, sessionId, turnId].map(encodeURIComponent).join("/");
      return (await askJson<{ items: Phase[] }>(`api/debug/turn/${path}`, { signal })).items;
    },
    refetchInterval: 3_000,
  });

export const explained = ({ registry, profile, profile_version }: Runtime) =>
  queryOptions({
    queryKey: ["debug", "runtime", registry, profile, profile_version],
    queryFn: ({ signal }) =>
      askJson<{ fingerprint: string; fields: Origin[] }>(
        `api/debug/runtime/${profile}/${profile_version}?registry=${registry}`,
        { signal },
      ),
    staleTime: Number.POSITIVE_INFINITY,
  });

export const events = async (convId: string, since: number, signal: AbortSignal): Promise<Held[]> => {
  const path = `api/debug/events/${encodeURIComponent(convId)}?since_seq=${since}&limit=${FRAMES}`;
  return (await askJson<{ items: Held[] }>(path, { signal })).items;
};

export const entities = (convId: string) =>
  queryOptions({
    queryKey: ["debug", "timeline", convId],
    queryFn: async ({ signal }) => {
      const path = `api/debug/timeline?conv_id=${encodeURIComponent(convId)}`;
      type Listed = { id: string; kind: string; createdAtMs?: string; updatedAtMs?: string; props: unknown };
      return (await askJson<{ entities?: Listed[] }>(path, { signal })).entities ?? [];
    },
    refetchInterval: 3_000,
  });

export const stepMode = (conv_id: string, on: boolean) =>
  ask(`api/debug/step/${on ? "enable" : "disable"}`, { method: "POST", body: { conv_id } });

export const goOn = (conv_id: string, pause_id: string) =>
  ask("api/debug/continue", { method: "POST", body: { conv_id, pause_id } });
