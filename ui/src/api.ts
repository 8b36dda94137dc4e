// Requests to the server: below its prefix, with refusals as errors that say what is wrong.

import type { components } from "./api-types";

type Schemas = components["schemas"];
export type ProfileListItem = Schemas["ProfileListItem"];
export type Release = Schemas["Release"];

/** The prefix of every address, with a slash at its end; the server writes it into `<base>`. */
export const BASE = new URL(document.baseURI).pathname;

/** A broken rule of a request. */
export interface Problem {
  pointer: string;
  field: string;
  keyword: string;
  message: string;
}

/** A request that was refused, or that nobody answered (`status` 0). */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly problems: Problem[] = [],
  ) {
    super(message);
  }
}

/** What went wrong, as a sentence begins. */
export function saidOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

interface Options {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
  /** Goes on when the page is left. */
  keepalive?: boolean;
}

/** Asks below the prefix; the answer with its headers. */
export async function ask(
  path: string,
  { method = "GET", body, signal, keepalive = false }: Options = {},
): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/problem+json, application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      keepalive,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "offline", "the server does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Asks, and reads JSON. */
export async function askJson<T>(path: string, options?: Options): Promise<T> {
  return (await (await ask(path, options)).json()) as T;
}

async function refusal(response: Response): Promise<Refusal> {
  const text = await response.text();
  try {
    const { detail, code, problems } = JSON.parse(text) as { detail: string; code: string; problems: Problem[] };
    return new Refusal(response.status, code, detail, problems);
  } catch {
    return new Refusal(response.status, "", text.trim() || response.statusText);
  }
}

/** The address of the page after this one, from a `Link` header. */
export function nextPage(response: Response): string | null {
  const link = response.headers.get("link")?.match(/<([^>]+)>; rel="next"/)?.[1];
  return link ? link.slice(BASE.length) : null;
}
