// Chat: the list, the thread, and the composer that never leaves the screen.

import { useNavigate, useParams } from "@tanstack/react-router";
import { useMemo } from "react";
import { ConversationList } from "./list";
import { useLive } from "./live";
import { drawn } from "./queries";
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
