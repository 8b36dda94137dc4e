// "Why did it say that?": conversation, turn, what the model was sent and what came back.

import { useQuery } from "@tanstack/react-query";
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { Refusal } from "../api";
import { Icon } from "../icons";
import { Search } from "../parts";
import { exact, relative } from "../time";
import { Entities } from "./entities";
import { Events } from "./events";
import { type Glance, glances, titles } from "./queries";
import { Turns } from "./turns";

const VIEWS = [
  ["turns", "Turns"],
  ["events", "Events"],
  ["timeline", "Timeline"],
] as const;

export function InspectorPage() {
  const { convId } = useParams({ strict: false });
  return (
    <>
      <Conversations current={convId} />
      <main className="thread" id="work" tabIndex={-1}>
        {convId ? (
          <Conversation key={convId} convId={convId} />
        ) : (
          <p className="hint placeholder">Choose a conversation.</p>
        )}
      </main>
    </>
  );
}

function Conversation({ convId }: { convId: string }) {
  const { view = "turns" } = useSearch({ strict: false }) as { view?: string };
  const named = useQuery(titles).data?.get(convId);
  return (
    <>
      <header className="thread-head">
        <Link to="/i" className="quiet back">
          Conversations
        </Link>
        <h1 className="thread-title">{named || convId}</h1>
        <nav className="views" aria-label="Views">
          {VIEWS.map(([name, label]) => (
            <Link
              key={name}
              to="/i/$convId"
              params={{ convId }}
              search={{ view: name }}
              className="quiet"
              aria-current={view === name ? "page" : undefined}
            >
              {label}
            </Link>
          ))}
        </nav>
        <Link to="/c/$convId" params={{ convId }} className="quiet">
          <Icon name="chat" />
          Open the chat
        </Link>
      </header>
      <div className="scroll">
        <div className="inspected">
          {view === "events" ? (
            <Events convId={convId} />
          ) : view === "timeline" ? (
            <Entities convId={convId} />
          ) : (
            <Turns convId={convId} />
          )}
        </div>
      </div>
    </>
  );
}

function Conversations({ current }: { current: string | undefined }) {
  const found = useQuery(glances);
  const named = useQuery(titles).data;
  const [search, setSearch] = useState("");
  const words = search.trim().toLowerCase();
  const title = (item: Glance) => named?.get(item.conv_id) || item.conv_id;
  const all = found.data ?? [];
  const shown = all.filter((item) => !words || `${title(item)} ${item.conv_id}`.toLowerCase().includes(words));
  const status = found.error instanceof Refusal ? found.error.status : 0;
  return (
    <aside className="list" data-open={current === undefined} aria-label="Conversations">
      <div className="list-head">
        <Search label="Filter conversations" value={search} onChange={setSearch} />
      </div>
      <div className="list-items">
        {shown.map((item) => (
          <Link key={item.conv_id} to="/i/$convId" params={{ convId: item.conv_id }} className="list-item">
            <span className="list-title">{title(item)}</span>
            <span className="list-meta">
              <span>
                {item.current_runtime_key}
                {item.queue_depth > 0 ? `, ${item.queue_depth} waiting` : ""}
              </span>
              <time title={exact(item.last_activity_ms)}>{relative(item.last_activity_ms)}</time>
            </span>
          </Link>
        ))}
        {found.isSuccess && shown.length === 0 && <p className="hint">No conversation.</p>}
        {status === 404 && <p className="hint">The debug API is off: start the server with --debug-api.</p>}
        {status === 403 && <p className="hint">This is for operators.</p>}
      </div>
    </aside>
  );
}
