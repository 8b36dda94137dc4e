// A draft on its way from what was stored to what will be: what others store meanwhile is brought together with it.

import { useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Refusal, saidOf } from "../api";
import { type Document, type Draft, draftOf, isSame, merged } from "./draft";
import { create, read, update } from "./queries";

export interface Editing {
  /** What was there when editing began, or when others changed it. */
  base: Draft;
  version: number;
  draft: Draft;
  conflicts: (keyof Draft)[];
  failure: string | null;
  set: <K extends keyof Draft>(field: K, value: Draft[K]) => void;
  discard: () => void;
  decided: (left: (keyof Draft)[]) => void;
  /** Takes over what was stored. */
  take: (saved: Document) => Promise<void>;
  /** Somebody was faster: both changes are brought together, and what both touched is named. */
  bring: (theirs: Document) => void;
  /** Stores; the document, `"faster"` if somebody else was, or nothing if it was refused. */
  save: (slug: string, note: string) => Promise<Document | "faster" | null>;
  /** Does something else with the profile, and says what went wrong. */
  act: (work: () => Promise<unknown>) => Promise<void>;
}

export function useEditing(slug: string | null, stored: Draft, storedVersion: number): Editing {
  const client = useQueryClient();
  const [base, setBase] = useState(stored);
  const [version, setVersion] = useState(storedVersion);
  const [draft, setDraft] = useState(stored);
  const [conflicts, decided] = useState<(keyof Draft)[]>([]);
  const [failure, setFailure] = useState<string | null>(null);

  // Somebody types on while others are asked for.
  const latest = useRef(draft);
  latest.current = draft;

  const take = async (saved: Document) => {
    const now = draftOf(saved);
    setBase(now);
    setDraft(now);
    setVersion(saved.metadata.version);
    decided([]);
    await client.invalidateQueries({ queryKey: ["profile", saved.slug] });
    await client.invalidateQueries({ queryKey: ["profiles"] });
  };
  const bring = (theirs: Document) => {
    const now = draftOf(theirs);
    const result = merged(base, latest.current, now);
    const untouched = isSame(base, latest.current);
    setBase(now);
    setVersion(theirs.metadata.version);
    setDraft(result.draft);
    decided(result.conflicts);
    void client.invalidateQueries({ queryKey: ["profile", theirs.slug, "history"] });
    if (untouched) return;
    const who = theirs.metadata.updated_by ? ` by ${theirs.metadata.updated_by}` : "";
    setFailure(
      `Version ${theirs.metadata.version} was stored${who} meanwhile. Your changes now stand on it; look once more.`,
    );
  };
  const save: Editing["save"] = async (wanted, note) => {
    setFailure(null);
    try {
      if (slug === null) {
        const made = await create(wanted, draft, note);
        await client.invalidateQueries({ queryKey: ["profiles"] });
        return made;
      }
      const saved = await update(slug, draft, version, note);
      await take(saved);
      return saved;
    } catch (error) {
      if (error instanceof Refusal && error.status === 409 && slug !== null) {
        bring(await read(slug));
        return "faster";
      }
      setFailure(saidOf(error));
      return null;
    }
  };
  const act = async (work: () => Promise<unknown>) => {
    setFailure(null);
    try {
      await work();
      await client.invalidateQueries({ queryKey: ["profiles"] });
    } catch (error) {
      setFailure(saidOf(error));
    }
  };
  const discard = () => {
    setDraft(base);
    setFailure(null);
    decided([]);
  };
  const set: Editing["set"] = (field, value) => setDraft((now) => ({ ...now, [field]: value }));
  return { base, version, draft, conflicts, failure, set, discard, decided, take, bring, save, act };
}
