// Text with colours: CodeMirror, loaded when an editor opens. It lives in a shadow root, where its styles need no exception
// from the page's policy.

import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { json } from "@codemirror/lang-json";
import { markdown } from "@codemirror/lang-markdown";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { Compartment, EditorState } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";

export interface CodeProps {
  language: "markdown" | "json";
  label: string;
  value: string;
  invalid: boolean;
  /** What stands below the field; labels do not reach into a shadow root. */
  about: string;
  disabled: boolean;
  /** Whether the field that was here before had the focus. */
  focused: boolean;
  onChange: (value: string) => void;
}

const LANGUAGES = { markdown, json };

const THEME = EditorView.theme({
  "&": { color: "inherit", backgroundColor: "transparent" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { padding: "6px 10px", caretColor: "currentColor", minHeight: "var(--least, 4lh)" },
  ".cm-line": { padding: "0" },
  ".cm-scroller": { font: "inherit", lineHeight: "inherit" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground, .cm-content ::selection": {
    backgroundColor: "var(--accent-tint)",
  },
});

const COLOURS = HighlightStyle.define([
  { tag: [tags.heading, tags.strong], fontWeight: "600" },
  { tag: tags.emphasis, fontStyle: "italic" },
  { tag: [tags.propertyName, tags.url, tags.link], color: "var(--accent)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--amber)" },
  { tag: [tags.string, tags.monospace], color: "var(--green)" },
  { tag: [tags.processingInstruction, tags.meta], color: "var(--n6)" },
]);

export default function Code(props: CodeProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const changing = useRef(new Compartment());
  const now = useRef(props);
  now.current = props;

  // biome-ignore lint/correctness/useExhaustiveDependencies: made once; what changes is dispatched below
  useEffect(() => {
    if (!host.current) return;
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open", delegatesFocus: true });
    const made = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: props.value,
        extensions: [
          history(),
          keymap.of([...defaultKeymap, ...historyKeymap]),
          LANGUAGES[props.language](),
          syntaxHighlighting(COLOURS),
          EditorView.lineWrapping,
          THEME,
          changing.current.of(attributesOf(props)),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) now.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    if (props.focused) made.focus();
    return () => made.destroy();
  }, []);
  useEffect(() => {
    const made = view.current;
    if (!made || made.state.doc.toString() === props.value) return;
    made.dispatch({ changes: { from: 0, to: made.state.doc.length, insert: props.value } });
  }, [props.value]);
  const { label, invalid, about, disabled } = props;
  useEffect(() => {
    view.current?.dispatch({
      effects: changing.current.reconfigure(attributesOf({ label, invalid, about, disabled })),
    });
  }, [label, invalid, about, disabled]);
  return <div ref={host} className="code-field" data-language={props.language} data-invalid={props.invalid} />;
}

function attributesOf({
  label,
  invalid,
  about,
  disabled,
}: Pick<CodeProps, "label" | "invalid" | "about" | "disabled">) {
  return [
    EditorState.readOnly.of(disabled),
    EditorView.editable.of(!disabled),
    EditorView.contentAttributes.of({
      "aria-label": label,
      "aria-invalid": String(invalid),
      "aria-description": about,
      "aria-readonly": String(disabled),
      spellcheck: "true",
    }),
  ];
}
