// Profiles: the list, and the editor of one.

import { useQuery } from "@tanstack/react-query";
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { profiles } from "../chat/queries";
import { Icon } from "../icons";
import { type Document, type Draft, draftOf, EMPTY } from "./draft";
import { Editor } from "./editor";
import { profile } from "./queries";
import { Transfer } from "./transfer";

export function ProfilesPage() {
  const { slug } = useParams({ strict: false });
  return (
    <>
      <ProfileList alone={!slug} />
      <main className="thread" id="work" tabIndex={-1}>
        {slug ? (
          <Existing key={slug} slug={slug} />
        ) : (
          <p className="hint placeholder">Choose a profile, or make one.</p>
        )}
      </main>
    </>
  );
}

/** Empty, or a copy of another one. */
export function NewProfilePage() {
  const { from } = useSearch({ strict: false }) as { from?: string };
  const copied = useQuery({ ...profile(from ?? ""), enabled: from !== undefined });
  if (from !== undefined && !copied.data) return null;
  const base = copied.data ? copyOf(copied.data) : EMPTY;
  return (
    <>
      <ProfileList />
      <main className="thread" id="work" tabIndex={-1}>
        <Editor key={from ?? ""} slug={null} base={base} document={null} />
      </main>
    </>
  );
}

function copyOf(document: Document): Draft {
  const draft = draftOf(document);
  const policy = { ...draft.policy, read_only: false };
  return { ...draft, display_name: `${draft.display_name || document.slug} copy`, policy };
}

function Existing({ slug }: { slug: string }) {
  const found = useQuery(profile(slug));
  if (found.isError) return <p className="hint placeholder">This profile cannot be read: {found.error.message}.</p>;
  if (!found.data) return null;
  return <Editor slug={slug} base={draftOf(found.data)} document={found.data} />;
}

function ProfileList({ alone = false }: { alone?: boolean }) {
  const list = useQuery(profiles);
  const [search, setSearch] = useState("");
  const [tag, setTag] = useState("");
  const words = search.trim().toLowerCase();
  const has = (text: string | undefined) => text?.toLowerCase().includes(words);
  const all = list.data ?? [];
  const tags = [...new Set(all.flatMap((p) => p.tags ?? []))].sort();
  // A tag that nobody has any more filters nothing.
  const wanted = tags.includes(tag) ? tag : "";
  const found = all.filter(
    (p) =>
      (!words || has(p.slug) || has(p.display_name) || has(p.description) || p.tags?.some(has)) &&
      (!wanted || (p.tags ?? []).includes(wanted)),
  );
  return (
    <aside className="list" data-open={alone} aria-label="Profiles">
      <div className="list-head">
        <label className="search">
          <Icon name="search" />
          <input
            type="search"
            placeholder="Filter"
            aria-label="Filter profiles"
            value={search}
            onChange={(event) => setSearch(event.target.value)}
          />
        </label>
        <Link to="/new-profile" className="button">
          <Icon name="plus" />
          New
        </Link>
      </div>
      {tags.length > 0 && (
        <label className="list-filter">
          Tag
          <select value={wanted} onChange={(event) => setTag(event.target.value)}>
            <option value="">All</option>
            {tags.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      <div className="list-items">
        {found.map((item) => (
          <Link key={item.slug} to="/p/$slug" params={{ slug: item.slug }} className="list-item">
            <span className="list-title">{item.display_name || item.slug}</span>
            <span className="list-meta">
              <span>{item.slug}</span>
              <span>
                {item.is_default ? "default, " : ""}
                {item.read_only ? "read-only, " : ""}v{item.version}
              </span>
            </span>
          </Link>
        ))}
        <Transfer />
        {list.isSuccess && found.length === 0 && <p className="hint">No profile has that.</p>}
        {list.isError && <p className="hint">The list cannot be read: {list.error.message}.</p>}
      </div>
    </aside>
  );
}
