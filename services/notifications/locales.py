"""Languages of notifications: the tags are those of `tornado_rt.locales`.

It imports no other module of this package, so that all of them can use it.
"""

from tornado_rt.bounds import check_locale as check_locale
from tornado_rt.locales import LAST_LOCALE as LAST_LOCALE
from tornado_rt.locales import choose as choose
from tornado_rt.locales import fallbacks as fallbacks
from tornado_rt.locales import is_locale as is_locale
