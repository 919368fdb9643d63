"""Names of MediaWiki templates and of their arguments, by what becomes of them."""

from __future__ import annotations

import re

LANGUAGES = dict(
    re.findall(
        r"(\w+):([^,]+)",
        "ar:Arabic,az:Azerbaijani,be:Belarusian,bg:Bulgarian,bn:Bengali,ca:Catalan,cs:Czech,cy:Welsh,da:Danish,"
        "de:German,el:Greek,en:English,es:Spanish,et:Estonian,eu:Basque,fa:Persian,fi:Finnish,fr:French,ga:Irish,"
        "gl:Galician,grc:Ancient Greek,he:Hebrew,hi:Hindi,hr:Croatian,hu:Hungarian,hy:Armenian,id:Indonesian,"
        "is:Icelandic,it:Italian,ja:Japanese,ka:Georgian,kk:Kazakh,ko:Korean,la:Latin,lt:Lithuanian,lv:Latvian,"
        "mk:Macedonian,ml:Malayalam,mn:Mongolian,mr:Marathi,ms:Malay,nl:Dutch,no:Norwegian,pa:Punjabi,pl:Polish,"
        "ps:Pashto,pt:Portuguese,ro:Romanian,ru:Russian,sa:Sanskrit,sk:Slovak,sl:Slovene,sq:Albanian,sr:Serbian,"
        "sv:Swedish,sw:Swahili,ta:Tamil,te:Telugu,th:Thai,tl:Tagalog,tr:Turkish,uk:Ukrainian,ur:Urdu,uz:Uzbek,"
        "vi:Vietnamese,yi:Yiddish,zh:Chinese",
    )
)
LITERAL = {
    "'": "'",
    "'s": "'s",
    "=": "=",
    "!": "|",
    "pipe": "|",
    "·": "·",
    "•": "•",
    "dot": "·",
    "nbsp": " ",
    "thinsp": " ",
    "spaces": " ",
    "ndash": "–",
    "mdash": "—",
    "snd": " – ",
    "spnd": " – ",
    "spaced ndash": " – ",
    "mdashb": "—",
}
"""Templates that stand for a fixed text."""
DEFAULTS = {"yes": "Yes", "no": "No", "won": "Won", "nom": "Nominated", "n/a": "N/A", "tba": "TBA"}
"""Templates that read like their first value, or like this without one."""
FIRST_VALUE = {
    *("nowrap", "nobr", "small", "smaller", "big", "large", "larger", "nobold", "noitalic", "sc", "smallcaps", "em"),
    *("abbr", "tooltip", "linktext", "vanchor", "visible anchor", "keypress", "nastaliq", "strong", "math", "mvar"),
    *(
        "quote",
        "quotation",
        "blockquote",
        "cquote",
        "bquote",
        "poemquote",
        "sub",
        "code",
        "sic",
        "as written",
        "nts",
        "ipa",
    ),
    *("angbr", "vr", "gr", "flag", "flagcountry", "flagu", "plainlist", "railgauge"),
}
"""Templates that read like their first value."""
LAST_VALUE = {
    *("lang", "transl", "transliteration", "native name", "script", "unicode", "columns-list", "resize", "rtl-lang"),
    *("color", "colour", "font color", "fontcolor", "background color", "legend", "sort", "longitem", "lsj", "hidden"),
}
"""Templates that read like their last value."""
SHIPS = {
    *("hms", "uss", "hmas", "hmcs", "hmnzs", "hmt", "ss", "rms", "mv", "ms", "mt", "sms", "usat", "uscgc", "usns"),
    *(
        "css",
        "ins",
        "jds",
        "ps",
        "rfa",
        "rv",
        "ts",
        "hnlms",
        "hnoms",
        "hswms",
        "hdms",
        "ars",
        "bap",
        "orp",
        "roks",
        "tcg",
    ),
}
"""Prefixes of the names of ships."""
CURRENCIES = {"usd": "US$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "aud": "A$", "cad": "C$", "cny": "CN¥"}
"""Signs of currencies by their codes."""
DROPPED = {
    *(
        "r",
        "rp",
        "ref",
        "refn",
        "efn",
        "efn-ua",
        "efn-lr",
        "note",
        "ref label",
        "note label",
        "sfn",
        "sfnp",
        "sfnm",
        "cn",
    ),
    *(
        "fact",
        "clarify",
        "who",
        "when",
        "which",
        "why",
        "where",
        "by whom",
        "vague",
        "dubious",
        "specify",
        "full",
        "anchor",
    ),
    *(
        "verify source",
        "better source",
        "unreliable source?",
        "dead link",
        "page needed",
        "failed verification",
        "update",
    ),
    *(
        "relevance inline",
        "coord",
        "flagicon",
        "flag icon",
        "flagdeco",
        "wayback",
        "webarchive",
        "isbn",
        "issn",
        "oclc",
    ),
    *(
        "doi",
        "pmid",
        "jstor",
        "arxiv",
        "google books",
        "youtube",
        "respell",
        "audio",
        "pronunciation",
        "hs",
        "ntsh",
        "0",
    ),
    *(
        "inflation",
        "age",
        "time ago",
        "years ago",
        "portal",
        "portal bar",
        "details",
        "main",
        "main article",
        "see also",
        "further",
        "about",
        "for",
    ),
    *("distinguish", "hatnote", "redirect", "other uses", "multiple image", "listen", "authority control", "reflist"),
    *("multiple issues", "notelist", "library resources box", "sister project links", "short description"),
}
"""Notes, references, notices and links to other pages."""
DROPPED_BEGINNINGS = (
    *("cite ", "citation", "vcite", "harv", "ipac", "ipa-", "pp-", "use ", "wikisource", "wiktionary", "wikiquote"),
    *(
        "commons",
        "navbox",
        "sidebar",
        "campaignbox",
        "userbox",
        "ambox",
        "location map",
        "clade",
        "defaultsort",
        "expand ",
    ),
)
DROPPED_ENDS = (" icon", " sidebar", " navbox", "-inline", " stub", "-stub")
DATE_NAME = re.compile(r"((birth|death|start|end|film|release|launch|opening|publication)[ -]?date|bda|dda|dob)\b")
LAYOUT_KEY = re.compile(
    r"(^|[_ ])(image|img|photo|picture|logo|pushpin|map|mapframe|flag|seal|signature|alt|size|width|upright|style|color"
    r"|colour|bg|background|align|float|class|state|collapsed)\d*($|[_ ])",
    re.IGNORECASE,
)
LAYOUT_VALUE = re.compile(
    r"(yes|no|none|left|right|center|auto|y|n|\d+px|#[0-9a-f]{3,8}|.*\.(jpe?g|png|svg|gif|ogg|webm))", re.IGNORECASE
)
FILE_OR_ADDRESS = re.compile(r"https?:|[\w.-]+\.(jpe?g|png|svg|gif|ogg|webm)$", re.IGNORECASE)
