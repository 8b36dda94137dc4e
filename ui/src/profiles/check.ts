// What the server says of a draft while it is being written.

import { useEffect, useState } from "react";
import { type Problem, Refusal } from "../api";
import { type Draft, isSame } from "./draft";
import { type Difference, preview, rehearse } from "./queries";

export type Check =
  | { state: "unchanged" }
  | { state: "asking" }
  | { state: "valid"; changes: Difference[] }
  | { state: "problems"; problems: Problem[] }
  /** Nobody could say: the server is away, or another reason than the draft. */
  | { state: "unknown"; reason: string };

/** Between two letters people do not want an answer. */
const PAUSE = 300;

interface Of {
  /** Absent for a profile that is not there yet. */
  slug: string | null;
  wanted: string;
  base: Draft;
  /** Of the base. */
  version: number;
  draft: Draft;
  /** There is a newer version than this one. */
  onStale: () => void;
}

export function useCheck({ slug, wanted, base, version, draft, onStale }: Of): Check {
  const [check, setCheck] = useState<Check>({ state: "unchanged" });
  // Before the first word of a new profile there is nothing to judge.
  const same = isSame(base, draft) && (slug !== null || wanted === "");
  const text = JSON.stringify(draft);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the draft is looked at as text, so that only a change asks again
  useEffect(() => {
    if (same) {
      setCheck({ state: "unchanged" });
      return;
    }
    setCheck((before) => (before.state === "problems" ? before : { state: "asking" }));
    const given = new AbortController();
    const timer = setTimeout(async () => {
      try {
        if (slug === null) {
          await rehearse(wanted, draft, given.signal);
          setCheck({ state: "valid", changes: [] });
        } else {
          setCheck({ state: "valid", changes: await preview(slug, draft, version, given.signal) });
        }
      } catch (error) {
        if (given.signal.aborted) return;
        if (slug !== null && error instanceof Refusal && error.status === 409) onStale();
        else setCheck(refused(error));
      }
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      given.abort();
    };
  }, [same, slug, wanted, text, version]);
  return check;
}

function refused(error: unknown): Check {
  if (!(error instanceof Refusal)) throw error;
  if (error.problems.length > 0) return { state: "problems", problems: error.problems };
  if (error.code === "invalid_slug" || error.code === "version_conflict") {
    const message =
      error.code === "version_conflict"
        ? "a profile with this slug is there already"
        : "a slug is made of a-z, 0-9, dots, dashes and underscores, for example weekly-sales";
    return { state: "problems", problems: [{ pointer: "/slug", field: "slug", keyword: error.code, message }] };
  }
  return { state: "unknown", reason: error.message };
}
