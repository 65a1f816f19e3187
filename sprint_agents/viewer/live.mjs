// A live page: its runs come from the server of the page, again and again.

import { showRuns } from "./page.mjs";

const INTERVAL = 1000;

/** Ask for runs that are still growing; the tag of an answer says whether it is another one. */
async function follow(address, shown) {
  let tag = shown;
  let pause = INTERVAL;
  try {
    const reply = await fetch(address, { cache: "no-cache" });
    if (reply.ok && reply.headers.get("etag") !== shown) {
      showRuns(await reply.json());
      tag = reply.headers.get("etag");
    }
  } catch {
    pause = 10 * INTERVAL; // the server has ended; it may come back
  }
  setTimeout(() => follow(address, tag), pause);
}

follow(document.body.dataset.live, null);
