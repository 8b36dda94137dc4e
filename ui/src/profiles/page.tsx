// Profiles: the list, and the editor of one.

import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { profiles } from "../chat/queries";
import { Icon } from "../icons";
import { draftOf, EMPTY } from "./draft";
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

export function NewProfilePage() {
  return (
    <>
      <ProfileList />
      <main className="thread" id="work" tabIndex={-1}>
        <Editor slug={null} base={EMPTY} document={null} />
      </main>
    </>
  );
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
  const words = search.trim().toLowerCase();
  const has = (text: string | undefined) => text?.toLowerCase().includes(words);
  const found = (list.data ?? []).filter((p) => !words || has(p.slug) || has(p.display_name) || has(p.description));
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
        <Link to="/p/new" className="button">
          <Icon name="plus" />
          New
        </Link>
      </div>
      <div className="list-items">
        {found.map((item) => (
          <Link key={item.slug} to="/p/$slug" params={{ slug: item.slug }} className="list-item">
            <span className="list-title">{item.display_name || item.slug}</span>
            <span className="list-meta">
              <span>{item.slug}</span>
              <span>
                {item.is_default ? "default, " : ""}v{item.version}
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
