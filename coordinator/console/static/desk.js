// Where this desk's pages are is in no address that others know, so a link from elsewhere leads to a page that asks here. What is kept for this origin is
// kept from other ports of this machine, unlike a cookie.
"use strict";

const ROOM = /^\/[A-Za-z0-9_-]{43}$/;
if (ROOM.test(document.body.dataset.room || "")) localStorage.setItem("room", document.body.dataset.room);
if ("knock" in document.body.dataset) {
  const room = localStorage.getItem("room") || "";
  if (ROOM.test(room)) location.replace(room + location.pathname + location.search);
}
