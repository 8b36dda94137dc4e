// Conversations, the latest first, under headings by day.

import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useDeferredValue, useEffect, useRef, useState } from "react";
import { Icon } from "../icons";
import { Search } from "../parts";
import { dayOf, exact, relative } from "../time";
import { type ConversationItem, conversations } from "./queries";

export function ConversationList({ current }: { current: string | undefined }) {
  const [search, setSearch] = useState("");
  const [open, setOpen] = useState(false);
  const asked = useDeferredValue(search.trim());
  const list = useInfiniteQuery({ ...conversations(asked), refetchInterval: 15_000 });
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape") setOpen(false);
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setOpen(true);
      field.current?.focus();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another conversation closes the drawer
  useEffect(() => setOpen(false), [current]);
  const items = list.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <button type="button" className="quiet drawer-button" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="list" />
        <span className="hidden">Conversations</span>
      </button>
      <aside className="list" data-open={open} aria-label="Conversations">
        <div className="list-head">
          <Search
            label="Search conversations"
            placeholder="Search titles"
            keys="Control+K Meta+K"
            value={search}
            onChange={setSearch}
            field={field}
          />
          <Link to="/" className="button" aria-label="New conversation">
            <Icon name="plus" />
            New
          </Link>
        </div>
        <div className="list-items">
          {items.map((item, at) => (
            <Item key={item.conv_id} item={item} before={items[at - 1]} />
          ))}
          {list.isSuccess && items.length === 0 && (
            <p className="hint">{asked ? "No title has that." : "Conversations appear here."}</p>
          )}
          {list.isError && <p className="hint">The list cannot be read: {list.error.message}.</p>}
          {list.hasNextPage && (
            <button type="button" className="quiet" onClick={() => list.fetchNextPage()}>
              Older
            </button>
          )}
        </div>
      </aside>
    </>
  );
}

function Item({ item, before }: { item: ConversationItem; before: ConversationItem | undefined }) {
  const day = dayOf(item.last_activity_ms);
  return (
    <>
      {(!before || dayOf(before.last_activity_ms) !== day) && <h2 className="list-day">{day}</h2>}
      <Link to="/c/$convId" params={{ convId: item.conv_id }} className="list-item">
        <span className="list-title">{item.title || item.conv_id}</span>
        <span className="list-meta">
          <span>{item.runtime_key}</span>
          <time title={exact(item.last_activity_ms)}>{relative(item.last_activity_ms)}</time>
        </span>
      </Link>
    </>
  );
}
