import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BASE, Refusal } from "./api";
import { ChatPage } from "./chat/page";
import { Broken, Shell } from "./shell";
import "./style/base.css";
import "./style/list.css";
import "./style/thread.css";
import "./style/composer.css";
import "./style/profiles.css";
import "./style/operations.css";
import "./style/inspector.css";

const root = createRootRoute({ component: Shell });
const chat = createRoute({ getParentRoute: () => root, path: "/", component: ChatPage });
const conversation = createRoute({ getParentRoute: () => root, path: "/c/$convId", component: ChatPage });
// Most people only chat; the other pages come when they are asked for.
const editor = () => import("./profiles/page");
const profiles = lazyRouteComponent(editor, "ProfilesPage");
const newProfile = lazyRouteComponent(editor, "NewProfilePage");
const operations = lazyRouteComponent(() => import("./operations/page"), "OperationsPage");
const inspector = lazyRouteComponent(() => import("./inspector/page"), "InspectorPage");
const routeTree = root.addChildren([
  chat,
  conversation,
  createRoute({ getParentRoute: () => root, path: "/p", component: profiles }),
  createRoute({ getParentRoute: () => root, path: "/new-profile", component: newProfile }),
  createRoute({ getParentRoute: () => root, path: "/p/$slug", component: profiles }),
  createRoute({ getParentRoute: () => root, path: "/i", component: inspector }),
  createRoute({ getParentRoute: () => root, path: "/i/$convId", component: inspector }),
  createRoute({ getParentRoute: () => root, path: "/ops", component: operations }),
]);
const router = createRouter({ routeTree, basepath: BASE, defaultErrorComponent: Broken });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // What was refused stays refused; what was not answered may be answered the next time.
      retry: (count, error) => count < 2 && error instanceof Refusal && (error.status === 0 || error.status >= 500),
      staleTime: 5_000,
    },
  },
});

const element = document.getElementById("root");
if (element) {
  createRoot(element).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
