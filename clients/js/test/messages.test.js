import assert from "node:assert/strict";
import { test } from "node:test";

import { Message, addMessages, catalogueOf, joined, languages, t, tn, wordsIn } from "../src/messages.js";
import { agoInWords, clockOf, lengthOf, percentOf, roughly, sentence } from "../src/elements/words.js";

const NOON = Date.UTC(2026, 10, 30, 12);

addMessages("pl", {
  "Hello {name}": "Cześć {name}",
  "{n} task": { one: "{n} zadanie", few: "{n} zadania", many: "{n} zadań", other: "{n} zadania" },
  ", ": ", ",
});

test("a message is in the language in which it is asked for", () => {
  const message = t("Hello {name}", { name: "Ala" });
  assert.equal(message.in("pl"), "Cześć Ala");
  assert.equal(message.in("en"), "Hello Ala");
  // Without a page it is English.
  assert.equal(`${message}`, "Hello Ala");
  assert.equal(wordsIn("Ala", "pl"), "Ala");
});

test("what a language does not have is English, with numbers as that writes them", () => {
  assert.equal(t("{n} of {most}", { n: 1234.5, most: 2 }).in("de"), "1.234,5 of 2");
  assert.equal(t("{n} of {most}", { n: 1234 }).in("en"), "1,234 of {most}");
});

test("a message that counts has the plural of its language", () => {
  const counted = [1, 2, 5, 22].map((n) => tn(n, "{n} task", "{n} tasks"));
  assert.deepEqual(counted.map((one) => one.in("pl")), ["1 zadanie", "2 zadania", "5 zadań", "22 zadania"]);
  assert.deepEqual(counted.map((one) => one.in("en")), ["1 task", "2 tasks", "5 tasks", "22 tasks"]);
});

test("messages stand in messages, and behind one another", () => {
  const both = joined([t("Hello {name}", { name: "A" }), "", null, tn(2, "{n} task", "{n} tasks")], t(", "));
  assert.equal(t("({both})", { both }).in("pl"), "(Cześć A, 2 zadania)");
});

test("a tag means the language with its likely script", () => {
  assert.deepEqual(languages().slice(0, 2), ["en", "zh-CN"]);
  assert.deepEqual(["zh", "zh-Hans", "zh-SG", "zh-CN", "en-GB"].map(catalogueOf), ["zh-CN", "zh-CN", "zh-CN", "zh-CN", "en"]);
  assert.deepEqual(["zh-TW", "zh-Hant", "fr", "no tag", ""].map(catalogueOf), [null, null, null, null, null]);
  addMessages("fr", {});
  assert.equal(catalogueOf("fr-CA"), "fr");
});

test("a later addition goes before an earlier one, and leaves the rest of it", () => {
  addMessages("pl", { "Hello {name}": "Dzień dobry, {name}" });
  assert.equal(t("Hello {name}", { name: "A" }).in("pl"), "Dzień dobry, A");
  assert.equal(tn(1, "{n} task", "{n} tasks").in("pl"), "1 zadanie");
});

test("times and shares are as the language writes them", () => {
  assert.equal(agoInWords(NOON - 300_000, NOON, "en"), "5m ago");
  assert.equal(agoInWords(NOON - 300_000, NOON, "zh-CN"), "5分钟前");
  assert.equal(agoInWords(NOON - 1000, NOON, "zh-CN"), "现在");
  assert.equal(lengthOf(245).in("zh-CN"), "4分钟5秒");
  assert.equal(roughly(7200).in("zh-CN"), "2小时");
  assert.equal(percentOf(0.45).in("en"), "45%");
  assert.match(clockOf(Date.UTC(2026, 10, 30, 0, 7), NOON).in("en-GB"), /^\d\d:\d\d$/);
});

test("a sentence has its capital and its full stop", () => {
  assert.equal(sentence(t("slow since {time}", { time: "12:05" })).in("en"), "Slow since 12:05.");
  assert.equal(sentence("").in("en"), "");
  assert.ok(sentence("x") instanceof Message);
});
