// A profile as its editor holds it: configurations stand at their middlewares, not in extensions. Pure.

export interface Middleware {
  name: string;
  id?: string | undefined;
  enabled?: boolean | undefined;
  config: Record<string, unknown>;
}

export interface Policy {
  allow_overrides: boolean;
  allowed_override_keys: string[];
  denied_override_keys: string[];
  read_only: boolean;
}

/** What the author owns. */
export interface Draft {
  display_name: string;
  description: string;
  tags: string[];
  system_prompt: string;
  middlewares: Middleware[];
  /** Absent is all tools. */
  tools: string[] | null;
  step_settings_patch: Record<string, unknown>;
  policy: Policy;
  /** Without the configurations of middlewares. */
  extensions: Record<string, unknown>;
}

/** The document of the API. */
export interface Document {
  slug: string;
  is_default: boolean;
  display_name?: string;
  description?: string;
  runtime?: {
    system_prompt?: string;
    middlewares?: { name: string; id?: string; enabled?: boolean }[];
    tools?: string[];
    step_settings_patch?: Record<string, unknown>;
  };
  policy?: Partial<Policy>;
  metadata: { version: number; tags?: string[]; updated_by?: string; updated_at_ms?: number; source?: string };
  extensions?: Record<string, unknown>;
}

export const EMPTY: Draft = {
  display_name: "",
  description: "",
  tags: [],
  system_prompt: "",
  middlewares: [],
  tools: null,
  step_settings_patch: {},
  policy: { allow_overrides: false, allowed_override_keys: [], denied_override_keys: [], read_only: false },
  extensions: {},
};

const SLOT = /^middleware\.(.+)_config@v\d+$/;

export function draftOf(document: Document): Draft {
  const extensions = document.extensions ?? {};
  const slots = new Map<string, Record<string, Record<string, unknown>>>();
  const others: Record<string, unknown> = {};
  for (const [key, payload] of Object.entries(extensions)) {
    const name = key.match(SLOT)?.[1];
    if (name) slots.set(name, (payload as { instances?: Record<string, Record<string, unknown>> }).instances ?? {});
    else others[key] = payload;
  }
  const middlewares = (document.runtime?.middlewares ?? []).map((use, at) => {
    // A name is part of a key in the form that keys have.
    const slot = slots.get(use.name.toLowerCase().replaceAll(/[^a-z0-9_-]+/g, "_")) ?? slots.get(use.name) ?? {};
    return { ...use, config: slot[use.id ? `id:${use.id}` : `index:${at}`] ?? {} };
  });
  return {
    display_name: document.display_name ?? "",
    description: document.description ?? "",
    tags: document.metadata.tags ?? [],
    system_prompt: document.runtime?.system_prompt ?? "",
    middlewares,
    tools: document.runtime?.tools ?? null,
    step_settings_patch: document.runtime?.step_settings_patch ?? {},
    policy: { ...EMPTY.policy, ...document.policy },
    extensions: others,
  };
}

/** The body of a create or a patch that makes a profile what the draft says. */
export function bodyOf(draft: Draft): Record<string, unknown> {
  const { display_name, description, tags, policy, extensions } = draft;
  const middlewares = draft.middlewares.map(({ name, id, enabled, config }) => ({
    name,
    ...(id ? { id } : {}),
    ...(enabled === undefined ? {} : { enabled }),
    config,
  }));
  const runtime = {
    system_prompt: draft.system_prompt,
    middlewares,
    ...(draft.tools === null ? {} : { tools: draft.tools }),
    step_settings_patch: draft.step_settings_patch,
  };
  return { display_name, description, metadata: { tags }, runtime, policy, extensions };
}

export function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, member]) => [key, sorted(member)]));
}

/** A draft that was made of `base`, brought onto what others made of it meanwhile. */
export interface Merge {
  draft: Draft;
  /** Fields that both changed, each in another way. */
  conflicts: (keyof Draft)[];
}

export function merged(base: Draft, mine: Draft, theirs: Draft): Merge {
  const conflicts: (keyof Draft)[] = [];
  const draft = { ...theirs } as Record<keyof Draft, unknown>;
  for (const field of Object.keys(base) as (keyof Draft)[]) {
    if (isSame(mine[field], base[field]) || isSame(mine[field], theirs[field])) continue;
    if (!isSame(theirs[field], base[field])) conflicts.push(field);
    draft[field] = mine[field];
  }
  return { draft: draft as unknown as Draft, conflicts };
}

/** A slug that a name suggests. */
export function slugOf(name: string): string {
  return name
    .toLowerCase()
    .normalize("NFD")
    .replaceAll(/[\u0300-\u036f]/g, "")
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "")
    .slice(0, 64);
}
