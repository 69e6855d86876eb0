"""The languages of what end users see: one catalogue, and the language that somebody reads.

A text for an end user is a `Text` (tornado_rt/work/texts.py). It is put in a language in one place:
where an answer, a frame, a notification or a mail is made. Texts for operators and authors stay
English (docs/decisions/0019-languages.md).
"""

from tornado_rt.locales.catalogue import ENGLISH as ENGLISH
from tornado_rt.locales.catalogue import BadCatalogue as BadCatalogue
from tornado_rt.locales.catalogue import Languages as Languages
from tornado_rt.locales.catalogue import Words as Words
from tornado_rt.locales.catalogue import built_in_languages as built_in_languages
from tornado_rt.locales.catalogue import load_languages as load_languages
from tornado_rt.locales.tags import LAST_LOCALE as LAST_LOCALE
from tornado_rt.locales.tags import accepted as accepted
from tornado_rt.locales.tags import choose as choose
from tornado_rt.locales.tags import fallbacks as fallbacks
from tornado_rt.locales.tags import is_locale as is_locale
