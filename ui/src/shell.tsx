// The frame around every page: the rail, and where the work is.

import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { saidOf } from "./api";
import { DEBUG_API } from "./facts";
import { Icon } from "./icons";

export function Shell() {
  const { pathname } = useLocation();
  const inChat = pathname === "/" || pathname.startsWith("/c/");
  return (
    <div className="shell">
      {/* No link: below a <base> a fragment would lead to the first page. */}
      <button type="button" className="button skip" onClick={() => document.getElementById("work")?.focus()}>
        Skip to the work
      </button>
      <nav className="rail" aria-label="Areas">
        <Link to="/" className="rail-item" data-here={inChat}>
          <Icon name="chat" />
          <span>Chat</span>
        </Link>
        <Link to="/p" className="rail-item" data-here={pathname === "/new-profile" || pathname.startsWith("/p")}>
          <Icon name="profile" />
          <span>Profiles</span>
        </Link>
        {DEBUG_API && (
          <Link to="/i" className="rail-item" data-here={pathname.startsWith("/i")}>
            <Icon name="inspect" />
            <span>Inspector</span>
          </Link>
        )}
        <Link to="/ops" className="rail-item" data-here={pathname === "/ops"}>
          <Icon name="pulse" />
          <span>Status</span>
        </Link>
      </nav>
      <Outlet />
    </div>
  );
}

/** What stands in the place of a page that could not be drawn. */
export function Broken({ error }: { error: unknown }) {
  return (
    <main className="thread placeholder" id="work">
      <p className="problem" role="alert">
        This page could not be drawn: {saidOf(error)}
      </p>
      <button type="button" className="button" onClick={() => location.reload()}>
        Load it again
      </button>
    </main>
  );
}
