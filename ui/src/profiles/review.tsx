// The difference, before it is saved.

import { useState } from "react";
import { Diff } from "./diff";

export function Review(props: {
  isNew: boolean;
  slug: string;
  changes: Parameters<typeof Diff>[0]["changes"];
  failure: string | null;
  onClose: () => void;
  onSave: (note: string) => Promise<void>;
}) {
  const [note, setNote] = useState("");
  const [saving, setSaving] = useState(false);
  const open = (dialog: HTMLDialogElement | null) => {
    if (dialog && !dialog.open) dialog.showModal();
  };
  const save = async () => {
    setSaving(true);
    await props.onSave(note);
    setSaving(false);
  };
  return (
    <dialog ref={open} className="review" aria-label="Review" onClose={props.onClose}>
      <h2>{props.isNew ? `Create “${props.slug}”` : `Save “${props.slug}”`}</h2>
      {!props.isNew && <Diff changes={props.changes} />}
      <form
        className="why"
        onSubmit={(event) => {
          event.preventDefault();
          if (!saving) void save();
        }}
      >
        <label className="field">
          Why (for the history)
          <input type="text" maxLength={200} value={note} onChange={(event) => setNote(event.target.value)} />
        </label>
        {props.failure && (
          <p className="problem" role="alert">
            {props.failure}
          </p>
        )}
        <div className="sure-row">
          <button type="button" className="button" onClick={props.onClose}>
            Back
          </button>
          <button type="submit" className="button primary" disabled={saving}>
            {props.isNew ? "Create" : "Save"}
          </button>
        </div>
      </form>
    </dialog>
  );
}
