// Text of a model as it grows: split into blocks, of which only the last is read again.

import { memo, useEffect, useState } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { useCopy } from "../copy";
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

/** New blocks of one picture: more at once would hold up the page. */
const BLOCKS_AT_ONCE = 12;

export function Markdown({ text, growing = false }: { text: string; growing?: boolean }) {
  const blocks = blocksOf(text);
  const most = useCatchUp(blocks.length, growing);
  return (
    <div className="markdown">
      {blocks.slice(0, most).map((block, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: blocks never move, the last one grows
        <Block key={at} text={block} />
      ))}
    </div>
  );
}

/** How many blocks are drawn: all, but of a text that grows faster than pictures are made, some more with each. */
function useCatchUp(count: number, growing: boolean): number {
  const [most, setMost] = useState(growing ? BLOCKS_AT_ONCE : Number.POSITIVE_INFINITY);
  useEffect(() => {
    if (count <= most) return;
    const frame = requestAnimationFrame(() => setMost((now) => now + BLOCKS_AT_ONCE));
    return () => cancelAnimationFrame(frame);
  }, [count, most]);
  return most;
}

function Code({ children }: { children: React.ReactNode }) {
  const { copied, copy } = useCopy();
  const [element, setElement] = useState<HTMLPreElement | null>(null);
  return (
    <div className="code">
      <button
        type="button"
        className="quiet code-copy"
        onClick={() => void copy(element?.textContent ?? "")}
        aria-label="Copy the code"
      >
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
