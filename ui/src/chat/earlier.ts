// A long conversation is drawn from its end; what is earlier comes when one looks for it, and nothing moves by that.

import { useCallback, useEffect, useState } from "react";

/** Entries that are drawn at first, and that are added at a time. */
const FIRST = 60;
const STEP = 60;

export interface Earlier {
  /** The first entry that is drawn. */
  from: number;
  /** On what stands in the place of those before it. */
  ref: (element: HTMLElement | null) => void;
  more: () => void;
}

export function useEarlier(count: number): Earlier {
  // Decided when there is something for the first time: what is added later is drawn anyway.
  const [from, setFrom] = useState<number | null>(null);
  const start = from ?? Math.max(0, count - FIRST);
  const [mark, ref] = useState<HTMLElement | null>(null);
  useEffect(() => {
    if (from === null && count > 0) setFrom(Math.max(0, count - FIRST));
  }, [from, count]);
  // The browser holds what one reads in its place (overflow-anchor).
  const more = useCallback(() => setFrom((now) => Math.max(0, (now ?? 0) - STEP)), []);
  useEffect(() => {
    if (!mark) return;
    const root = mark.closest(".scroll");
    const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), {
      root,
      rootMargin: "400px 0px 0px 0px",
    });
    seen.observe(mark);
    return () => seen.disconnect();
  }, [mark, more]);
  return { from: start, ref, more };
}
