// What can be done with a whole profile.

import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useRef } from "react";
import { Icon } from "../icons";
import { Sure } from "../parts";
import { history, makeDefault, profile, remove } from "./queries";

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
      // Its page stays, and offers the way back.
      client.removeQueries({ queryKey: history(slug).queryKey });
      client.setQueryData(profile(slug).queryKey, null);
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
      <Sure dialog={sure} question={`Delete “${slug}”?`} yes="Delete" onYes={() => void forget()}>
        <p>
          Conversations keep what it answered. New prompts cannot use it.
          {isDefault ? " Another profile becomes the default." : ""} Its history stays, and it can be restored.
        </p>
      </Sure>
    </>
  );
}
