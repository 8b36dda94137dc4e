// Chat: the list, the thread, and the composer that never leaves the screen.

import { useNavigate, useParams } from "@tanstack/react-router";
import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { ConversationList } from "./list";
import { drawn } from "./queries";
import { type Live, LiveConversation } from "./store";
import { Thread } from "./thread";

export function ChatPage() {
  const { convId } = useParams({ strict: false });
  return (
    <>
      <ConversationList current={convId} />
      {convId ? <Open key={convId} convId={convId} /> : <New />}
    </>
  );
}

/** A conversation that the server does not know yet: it begins with its first prompt. */
function New() {
  const navigate = useNavigate();
  const convId = useMemo(drawn, []);
  return <Thread convId={convId} live={null} onFirst={() => navigate({ to: "/c/$convId", params: { convId } })} />;
}

function Open({ convId }: { convId: string }) {
  const live = useLive(convId);
  return <Thread convId={convId} live={live.state} onRetry={live.retryNow} />;
}

const NOTHING = () => () => {};

function useLive(convId: string): { state: Live | null; retryNow: () => void } {
  const [conversation, setConversation] = useState<LiveConversation | null>(null);
  useEffect(() => {
    const opened = new LiveConversation(convId);
    setConversation(opened);
    return () => opened.close();
  }, [convId]);
  const state = useSyncExternalStore(conversation?.subscribe ?? NOTHING, () => conversation?.snapshot() ?? null);
  return { state, retryNow: () => conversation?.retryNow() };
}
