// The view follows the text only while it is at its end.

import { useCallback, useLayoutEffect, useRef, useState } from "react";
import type { Conversation } from "./frames";

/** So near to the end counts as being there, in pixels. */
const NEAR = 48;

export function useFollow(conversation: Conversation) {
  const element = useRef<HTMLDivElement | null>(null);
  const atEnd = useRef(true);
  const [behind, setBehind] = useState(false);

  const onScroll = useCallback(() => {
    const of = element.current;
    if (!of) return;
    atEnd.current = of.scrollHeight - of.scrollTop - of.clientHeight < NEAR;
    if (atEnd.current) setBehind(false);
  }, []);
  const ref = useCallback(
    (of: HTMLDivElement | null) => {
      element.current?.removeEventListener("scroll", onScroll);
      element.current = of;
      of?.addEventListener("scroll", onScroll, { passive: true });
    },
    [onScroll],
  );
  const toEnd = useCallback(() => {
    const of = element.current;
    if (of) of.scrollTop = of.scrollHeight;
    atEnd.current = true;
    setBehind(false);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: every change of the text may move its end
  useLayoutEffect(() => {
    const of = element.current;
    if (!of) return;
    if (atEnd.current) of.scrollTop = of.scrollHeight;
    else setBehind(true);
  }, [conversation]);
  return { ref, behind, toEnd };
}
