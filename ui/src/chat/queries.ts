// What the chat asks the server for, and how it writes.

import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { ask, askJson, nextPage, type ProfileListItem } from "../api";

export interface ConversationItem {
  conv_id: string;
  title: string;
  runtime_key: string;
  last_error: string;
  last_activity_ms: number;
}

export interface Line {
  active: { idempotency_key: string; turn_id: string; runtime_key: string } | null;
  items: { idempotency_key: string; prompt: string; runtime_key: string }[];
}

const of = (convId: string) => `api/chat/conversations/${encodeURIComponent(convId)}`;

export const profiles = queryOptions({
  queryKey: ["profiles"],
  queryFn: ({ signal }) => askJson<ProfileListItem[]>("api/chat/profiles?details=1", { signal }),
});

/** The profile of the cookie, else the default. */
export const selection = queryOptions({
  queryKey: ["selection"],
  queryFn: ({ signal }) => askJson<{ slug: string }>("api/chat/profile", { signal }),
});

export const conversations = (search: string) =>
  infiniteQueryOptions({
    queryKey: ["conversations", search],
    queryFn: async ({ pageParam, signal }) => {
      const response = await ask(pageParam, { signal });
      return { items: (await response.json()) as ConversationItem[], next: nextPage(response) };
    },
    initialPageParam: `api/chat/conversations?limit=50&q=${encodeURIComponent(search)}`,
    getNextPageParam: (page) => page.next,
  });

/** What runs and what waits; nothing does in a conversation that nobody knows yet. */
export const line = (convId: string) =>
  queryOptions({
    queryKey: ["line", convId],
    queryFn: async ({ signal }): Promise<Line> => {
      try {
        return await askJson<Line>(`${of(convId)}/queue`, { signal });
      } catch (error) {
        if ((error as { status?: number }).status === 404) return { active: null, items: [] };
        throw error;
      }
    },
  });

export interface Prompt {
  convId: string;
  text: string;
  profile: string;
  key: string;
  /** The newest turn, when this prompt takes its place. */
  retryTurnId?: string | undefined;
}

export const submit = ({ convId, text, profile, key, retryTurnId }: Prompt) =>
  askJson<{ status: string; turn_id?: string }>("chat", {
    method: "POST",
    body: {
      conv_id: convId,
      prompt: text,
      runtime_key: profile,
      idempotency_key: key,
      ...(retryTurnId ? { retry_turn_id: retryTurnId } : {}),
    },
  });

export const select = (slug: string) => askJson("api/chat/profile", { method: "POST", body: { slug } });
export const cancel = (convId: string) => ask(`${of(convId)}/cancel`, { method: "POST" });
export const dequeue = (convId: string, key: string) =>
  ask(`${of(convId)}/queue/${encodeURIComponent(key)}`, { method: "DELETE" });
export const rename = (convId: string, title: string) => ask(of(convId), { method: "PATCH", body: { title } });
export const remove = (convId: string, keepalive = false) => ask(of(convId), { method: "DELETE", keepalive });

/** A name that nobody else has drawn; also where the page is not served securely. */
export function drawn(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
