// What can be done with a whole profile.

import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useRef } from "react";
import { Icon } from "../icons";
import { makeDefault, remove } from "./queries";

interface Props {
  slug: string;
  isDefault: boolean;
  trying: boolean;
  onTry: () => void;
  onAct: (work: () => Promise<unknown>) => Promise<void>;
  /** Before the page is left for good. */
  onLeave: () => void;
}

export function Actions({ slug, isDefault, trying, onTry, onAct, onLeave }: Props) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const sure = useRef<HTMLDialogElement>(null);
  const choose = () =>
    onAct(async () => {
      await makeDefault(slug);
      await client.invalidateQueries({ queryKey: ["profile", slug] });
    });
  const forget = () =>
    onAct(async () => {
      await remove(slug);
      onLeave();
      await navigate({ to: "/p" });
    });
  return (
    <>
      <button type="button" className="quiet" aria-pressed={trying} onClick={onTry}>
        <Icon name="chat" />
        Try it
      </button>
      <Link to="/new-profile" search={{ from: slug }} className="quiet">
        <Icon name="copy" />
        Duplicate
      </Link>
      {isDefault ? (
        <span className="head-meta">default</span>
      ) : (
        <button type="button" className="quiet" onClick={() => void choose()}>
          Make default
        </button>
      )}
      <button type="button" className="quiet danger" onClick={() => sure.current?.showModal()}>
        <Icon name="trash" />
        Delete
      </button>
      <dialog ref={sure} className="sure" aria-label={`Delete ${slug}`}>
        <h2>Delete “{slug}”?</h2>
        <p>
          Conversations keep what it answered. New prompts cannot use it.
          {isDefault ? " Another profile becomes the default." : ""} Its history stays, and it can be restored.
        </p>
        <form method="dialog" className="sure-row">
          <button type="submit" className="button">
            Keep it
          </button>
          <button type="button" className="button danger" onClick={() => void forget()}>
            Delete
          </button>
        </form>
      </dialog>
    </>
  );
}
