// Fields with their label, their mark when they differ, and what the server says of them underneath.

import { createContext, lazy, Suspense, useContext, useEffect, useId, useRef, useState } from "react";
import type { Problem } from "../api";
import type { CodeProps } from "./code";
import { isSame } from "./draft";

/** What is wrong with the draft, by place. */
export const Problems = createContext<Problem[]>([]);

export function useProblems(pointer: string): Problem[] {
  const all = useContext(Problems);
  return all.filter((problem) => problem.pointer === pointer || problem.pointer.startsWith(`${pointer}/`));
}

interface FieldProps {
  label: string;
  hint?: string | undefined;
  /** Where in the document its problems are. */
  pointer: string;
  changed?: boolean;
  /** Whether the control says its name itself. */
  own?: boolean;
  children: (ids: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => React.ReactNode;
}

export function Field({ label, hint, pointer, changed, own, children }: FieldProps) {
  const id = useId();
  const problems = useProblems(pointer);
  return (
    <div className="field" data-changed={changed === true}>
      {own ? <span className="field-label">{label}</span> : <label htmlFor={id}>{label}</label>}
      {children({ id, "aria-describedby": `${id}-about`, "aria-invalid": problems.length > 0 })}
      <div id={`${id}-about`} className="field-about">
        {hint && problems.length === 0 && <p>{hint}</p>}
        <Complaints problems={problems} />
      </div>
    </div>
  );
}

export function Complaints({ problems }: { problems: Problem[] }) {
  return problems.map((problem) => (
    <p key={problem.pointer + problem.message} className="complaint">
      {plainly(problem.message)}
    </p>
  ));
}

interface TextProps extends Omit<FieldProps, "children"> {
  value: string;
  onChange: (value: string) => void;
  rows?: number;
  disabled?: boolean;
}

export function TextField({ value, onChange, rows, disabled, ...field }: TextProps) {
  const shared = { value, disabled, onChange: (event: { target: { value: string } }) => onChange(event.target.value) };
  return (
    <Field {...field}>
      {(ids) => (rows ? <textarea rows={rows} {...shared} {...ids} /> : <input type="text" {...shared} {...ids} />)}
    </Field>
  );
}

const Code = lazy(() => import("./code"));

interface CodeFieldProps extends Omit<TextProps, "rows"> {
  language: CodeProps["language"];
}

/** Long text. A plain field stands in until the other one is there, and what was typed into it stays. */
export function CodeField({ language, value, onChange, disabled = false, ...field }: CodeFieldProps) {
  const problems = useProblems(field.pointer);
  const focused = useRef(false);
  const about = problems.length > 0 ? problems.map(({ message }) => plainly(message)).join(". ") : (field.hint ?? "");
  return (
    <Field {...field} own>
      {(ids) => (
        <Suspense
          fallback={
            <textarea
              rows={language === "json" ? 4 : 12}
              aria-label={field.label}
              disabled={disabled}
              value={value}
              onFocus={() => {
                focused.current = true;
              }}
              onBlur={() => {
                focused.current = false;
              }}
              onChange={(event) => onChange(event.target.value)}
              {...ids}
            />
          }
        >
          <Code
            language={language}
            label={field.label}
            value={value}
            invalid={problems.length > 0}
            about={about}
            disabled={disabled}
            focused={focused.current}
            onChange={onChange}
          />
        </Suspense>
      )}
    </Field>
  );
}

interface JsonProps extends Omit<FieldProps, "children"> {
  value: unknown;
  disabled?: boolean;
  onChange: (value: unknown) => void;
  onBroken: (broken: boolean) => void;
}

/** JSON as text. What does not parse is kept as it stands, and said. */
export function JsonField({ value, onChange, onBroken, ...field }: JsonProps) {
  const [text, setText] = useState(() => JSON.stringify(value, null, 2));
  const said = useRef(value);
  // What is typed stays as it is typed; what comes from elsewhere takes its place.
  // biome-ignore lint/correctness/useExhaustiveDependencies: only another value is news
  useEffect(() => {
    if (isSame(value, said.current)) return;
    said.current = value;
    setText(JSON.stringify(value, null, 2));
    onBroken(false);
  }, [value]);
  const type = (typed: string) => {
    setText(typed);
    const value = parsed(typed);
    onBroken(value === undefined);
    if (value === undefined) return;
    said.current = value;
    onChange(value);
  };
  return <CodeField language="json" value={text} onChange={type} {...field} />;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Words with commas between them. */
export function ListField({
  value,
  onChange,
  ...field
}: Omit<TextProps, "value" | "onChange"> & {
  value: string[];
  onChange: (value: string[]) => void;
}) {
  const words = (text: string) =>
    text
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
  // What is typed stays as it is typed, a comma at its end included; what comes from elsewhere takes its place.
  const [text, setText] = useState(() => value.join(", "));
  const shown = isSame(words(text), value) ? text : value.join(", ");
  return (
    <Field {...field}>
      {(ids) => (
        <input
          type="text"
          value={shown}
          onChange={(event) => {
            setText(event.target.value);
            onChange(words(event.target.value));
          }}
          {...ids}
        />
      )}
    </Field>
  );
}

/** The server's words without where they were found, which is where they stand. */
function plainly(message: string): string {
  return message.replace(/^.*? validation failed: (\/\S*: )?/, "").replace(/^coerce .*? from source \S+: /, "");
}
