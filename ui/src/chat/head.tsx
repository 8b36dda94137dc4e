// The title of a conversation, and what can be done with the whole of it.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useId, useRef, useState } from "react";
import { askJson } from "../api";
import { Icon } from "../icons";
import { Sure } from "../parts";
import { asMarkdown, save } from "./export";
import type { Conversation } from "./frames";
import { type ConversationItem, remove, rename } from "./queries";

interface Props {
  convId: string;
  conversation: Conversation;
  isNew: boolean;
}

export function ThreadHead({ convId, conversation, isNew }: Props) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const menu = useRef<HTMLDivElement>(null);
  const sure = useRef<HTMLDialogElement>(null);
  const menuId = useId();
  const [name, setName] = useState<string | null>(null);
  const listed = useQuery({
    queryKey: ["conversations", "one", convId],
    queryFn: async ({ signal }) => {
      const all = await askJson<ConversationItem[]>("api/chat/conversations?limit=200", { signal });
      return all.find((item) => item.conv_id === convId) ?? null;
    },
    enabled: !isNew,
  });
  const title = listed.data?.title || (isNew ? "New conversation" : convId);

  const store = async () => {
    const wanted = name?.trim();
    setName(null);
    if (!wanted || wanted === title) return;
    await rename(convId, wanted);
    await client.invalidateQueries({ queryKey: ["conversations"] });
  };
  const forget = async () => {
    await remove(convId);
    localStorage.removeItem(`draft:${convId}`);
    await client.invalidateQueries({ queryKey: ["conversations"] });
    await navigate({ to: "/" });
  };
  const close = () => menu.current?.hidePopover();
  return (
    <header className="thread-head">
      {name === null ? (
        <h1 className="thread-title">{title}</h1>
      ) : (
        <input
          className="thread-title"
          // biome-ignore lint/a11y/noAutofocus: renaming was asked for
          autoFocus
          aria-label="Title"
          maxLength={120}
          value={name}
          onChange={(event) => setName(event.target.value)}
          onBlur={() => void store()}
          onKeyDown={(event) => {
            if (event.key === "Enter") void store();
            if (event.key === "Escape") setName(null);
          }}
        />
      )}
      {!isNew && (
        <>
          <button type="button" className="quiet" popoverTarget={menuId} aria-label="More about this conversation">
            <Icon name="more" />
          </button>
          <div ref={menu} id={menuId} popover="auto" className="menu">
            <button
              type="button"
              onClick={() => {
                close();
                setName(title);
              }}
            >
              Rename
            </button>
            <button
              type="button"
              onClick={() => {
                close();
                save(`${title}.md`, "text/markdown", asMarkdown(title, conversation));
              }}
            >
              Save as Markdown
            </button>
            <button
              type="button"
              onClick={() => {
                close();
                const entities = conversation.order.map((id) => conversation.entities.get(id));
                save(
                  `${title}.json`,
                  "application/json",
                  JSON.stringify({ conv_id: convId, title, entities }, null, 2),
                );
              }}
            >
              Save as JSON
            </button>
            <button
              type="button"
              className="danger"
              onClick={() => {
                close();
                sure.current?.showModal();
              }}
            >
              Delete
            </button>
          </div>
          <Sure dialog={sure} question={`Delete “${title}”?`} yes="Delete" onYes={() => void forget()}>
            <p>Its turns and its history go with it. This cannot be undone.</p>
          </Sure>
        </>
      )}
    </header>
  );
}
