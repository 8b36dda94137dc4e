// A long conversation is drawn from its end; what is earlier comes when one looks for it, and nothing moves by that.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** Entries that are drawn at first, more than a screen of them, and that are added at a time. */
const FIRST = 20;
const STEP = 40;

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
  const top = useRef<{ of: Element; height: number } | null>(null);
  const more = useCallback(() => {
    const of = mark?.closest(".scroll");
    // Elsewhere the browser holds what one reads in its place (overflow-anchor), but not at the very top.
    top.current = of && of.scrollTop < 1 ? { of, height: of.scrollHeight } : null;
    setFrom((now) => Math.max(0, (now ?? 0) - STEP));
  }, [mark]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: when more is drawn
  useLayoutEffect(() => {
    if (top.current) top.current.of.scrollTop = top.current.of.scrollHeight - top.current.height;
    top.current = null;
  }, [start]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: looked at anew when more is drawn, it may still be in sight
  useEffect(() => {
    if (!mark) return;
    const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), {
      root: mark.closest(".scroll"),
      rootMargin: "400px 0px 0px 0px",
    });
    seen.observe(mark);
    return () => seen.disconnect();
  }, [mark, more, start]);
  return { from: start, ref, more };
}
