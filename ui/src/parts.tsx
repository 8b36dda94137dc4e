// What several pages are made of.

import { type ReactNode, type Ref, useId } from "react";
import { Icon } from "./icons";

interface SearchProps {
  /** What is searched, for those who do not see where it stands. */
  label: string;
  placeholder?: string;
  keys?: string;
  value: string;
  onChange: (value: string) => void;
  field?: Ref<HTMLInputElement>;
}

export function Search({ label, placeholder = "Filter", keys, value, onChange, field }: SearchProps) {
  return (
    <label className="search">
      <Icon name="search" />
      <input
        ref={field}
        type="search"
        placeholder={placeholder}
        aria-label={label}
        aria-keyshortcuts={keys}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </label>
  );
}

interface SureProps {
  /** Opened by whoever asks. */
  dialog: Ref<HTMLDialogElement>;
  question: string;
  yes: string;
  onYes: () => void;
  /** What comes of it. */
  children: ReactNode;
}

/** A question before something that hurts. */
export function Sure({ dialog, question, yes, onYes, children }: SureProps) {
  const id = useId();
  return (
    <dialog ref={dialog} className="sure" aria-labelledby={id}>
      <h2 id={id}>{question}</h2>
      {children}
      <form method="dialog" className="sure-row">
        <button type="submit" className="button">
          Keep it
        </button>
        <button type="button" className="button danger" onClick={onYes}>
          {yes}
        </button>
      </form>
    </dialog>
  );
}

/** What went wrong with what one did just now. */
export function ProblemBar({ text, onDismiss }: { text: string; onDismiss?: () => void }) {
  return (
    <p className="problem" role="alert">
      <Icon name="alert" />
      {text}
      {onDismiss && (
        <button type="button" className="quiet" onClick={onDismiss} aria-label="Dismiss">
          <Icon name="close" />
        </button>
      )}
    </p>
  );
}

/** What went wrong with what stands beside it. */
export function Complaint({ text }: { text: string }) {
  return (
    <p className="complaint" role="alert">
      {text}
    </p>
  );
}
