// A conversation as a component sees it.

import { useEffect, useState, useSyncExternalStore } from "react";
import { type Live, LiveConversation } from "./store";

const NOTHING = () => () => {};

/** Follows a conversation while the component is there; none where there is none yet. */
export function useLive(convId: string | null): { state: Live | null; retryNow: () => void } {
  const [conversation, setConversation] = useState<LiveConversation | null>(null);
  useEffect(() => {
    if (convId === null) return;
    const opened = new LiveConversation(convId);
    setConversation(opened);
    return () => opened.close();
  }, [convId]);
  const state = useSyncExternalStore(conversation?.subscribe ?? NOTHING, () => conversation?.snapshot() ?? null);
  return { state, retryNow: () => conversation?.retryNow() };
}
