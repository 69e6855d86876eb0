/** The language of a page: a choice in its header, kept in this browser and as the preference of the signed-in user. */

import { catalogueOf, chosenLanguage, followReader, languageOf, languages, readMarks, setLanguage } from "../rt-elements.js";

/** Return the language that the page is shown in, as the server is told of it. */
export const shownLanguage = () => catalogueOf(languageOf());

function nameOf(tag) {
  return new Intl.DisplayNames([tag], { type: "language" }).of(new Intl.Locale(tag).language);
}

export class LanguageChoice {
  #select;
  #client = null;

  /**
   * @param {HTMLSelectElement} select
   * @param {() => void} onChange is called when the page is shown in another language
   * @param {(error: Error) => void} onError
   */
  constructor(select, onChange, onError) {
    this.#select = select;
    select.addEventListener("change", () => {
      setLanguage(select.value);
      this.#keep(select.value).catch(onError);
    });
    document.addEventListener("rt-language", () => {
      select.value = shownLanguage();
      if (this.#client) this.#client.locale = shownLanguage();
      onChange();
    });
  }

  /** Show the page in the language of its reader; resolve when that is loaded. */
  async begin() {
    this.#select.replaceChildren(...languages().map((tag) => Object.assign(new Option(nameOf(tag), tag), { lang: tag, translate: false })));
    readMarks(document);
    await followReader();
    this.#select.value = shownLanguage();
  }

  /** Take the preference of the user of a client, where nothing was chosen in this browser; null: nobody is there. */
  async follow(client) {
    this.#client = client;
    if (!client || chosenLanguage()) return;
    const { locale } = await this.#preferences();
    if (client === this.#client && locale && catalogueOf(locale)) setLanguage(locale);
  }

  async #keep(locale) {
    const preferences = this.#client && (await this.#preferences());
    if (preferences) await this.#client.inbox.setPreferences({ ...preferences, locale });
  }

  /** Return the preferences; those of nobody where the server keeps none. */
  async #preferences() {
    try {
      return await this.#client.inbox.preferences();
    } catch (error) {
      if (error.status !== 404) throw error;
      return {};
    }
  }
}
