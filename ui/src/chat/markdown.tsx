// Text of a model as it grows: split into blocks, of which only the last is read again.

import { memo, useState } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { Icon } from "../icons";
import { blocksOf } from "./blocks";

const PLUGINS = [remarkGfm];

const COMPONENTS: Components = {
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  ),
  pre: ({ children }) => <Code>{children}</Code>,
  table: ({ children }) => (
    <div className="wide">
      <table>{children}</table>
    </div>
  ),
  // Pictures would tell their server that somebody reads this.
  img: ({ src, alt }) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noopener noreferrer">
      {alt || "picture"}
    </a>
  ),
};

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS}>
      {text}
    </ReactMarkdown>
  );
});

export function Markdown({ text }: { text: string }) {
  return (
    <div className="markdown">
      {blocksOf(text).map((block, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: blocks never move, the last one grows
        <Block key={at} text={block} />
      ))}
    </div>
  );
}

function Code({ children }: { children: React.ReactNode }) {
  const [copied, setCopied] = useState(false);
  const [element, setElement] = useState<HTMLPreElement | null>(null);
  const copy = async () => {
    await navigator.clipboard.writeText(element?.textContent ?? "");
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <div className="code">
      <button type="button" className="quiet code-copy" onClick={copy} aria-label="Copy the code">
        <Icon name={copied ? "check" : "copy"} />
        {copied ? "Copied" : "Copy"}
      </button>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached with the keyboard */}
      <pre ref={setElement} tabIndex={0}>
        {children}
      </pre>
    </div>
  );
}
