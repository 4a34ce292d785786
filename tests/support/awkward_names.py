"""Names that users may give, each of which some output could mistake for something else."""

from hypothesis import strategies as st

NAMES = (
    "熊猫", "狮子", "قطة", "גור", "é", "e\u0301", "👩‍👩‍👧", "AC/DC", "C:\\cat", "wolf [/grey]", "[red]x", ":dog: x",
    "</script><b>", "50%_$x$", "{{x}}", "${x}", "$x", "=cmd()|' '!A0", "nan", "NA", "None", "null", "True", "1", "1e5",
    "007", "inf", "a, b", "a; b", "a\tb", "a\nb", "a\rb", "a\r\nb", "\x1b[31mred\x1b[0m", "\x07bell", "x\u202eltr",
    "-wolf", "--forget", ".hidden.", " padded ", "con", "nul.txt", "it's", '"quoted"', "`tick`", "*bold*", "_it_", "|",
    "a | b", "\\|", "&lt;", "~x~", "#1", "@file", "a.b", "a[0]", "x" * 240, "猫" * 240, "a > b", "a + b", "2 across",
)  # fmt: skip
# any text that can be written as UTF-8, with characters that mean something to some format more often than others
CHARACTERS = st.one_of(
    st.sampled_from("/\\[](){}<>|&%$#*_`~'\",;:.=+-!? \t\r\n\x1b\x00\x7f\u202e\u2028熊é\u0301"),
    st.characters(exclude_categories=("Cs",)),
)
ANY_NAME = st.one_of(st.sampled_from(NAMES), st.text(CHARACTERS, min_size=1, max_size=30)).filter(str.strip)
