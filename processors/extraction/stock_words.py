"""What shops say of their stock, language by language, as patterns; `availability` decides which of them counts."""

from __future__ import annotations

import re


def _words(*lines: str) -> re.Pattern[str]:
    return re.compile("|".join(word.strip() for line in lines for word in line.split(" | ")), re.IGNORECASE)


#: Not about whether the product can be had: pictures, reviews, other ways to get or to pay for it, choices of it.
ABOUT_OTHER = _words(
    r"image | \bbild | photo | \bfoto | immagine | imagen | imagem | \blist\b | wish-?list | review | rezension",
    r"video",
    r"click (?:&|and) collect | pick-?up | abholung | filial | retrait en magasin | recogida | financ | finanz",
    r"instal?ment",
    r"\bchat\b | information | for this item | gift[- ]?wrap | rating | questions?",
    r"offers? (?:are|is)? ?available | store availability | verfügbarkeit in",
    r"availab\w+ (?:in|at) (?:your|nearby|local|selected|other)?\s?(?:stores?|shops?)",
    r"(?:not|un)availab\w+ in (?:your|this) (?:country|region|area|store) | delivery (?:is )?(?:not |un)?available",
    r"available (?:in )?(?:\d+ )?(?:\w+ )?(?:colou?rs?|sizes?|options?|variants?|languages?|formats?|finishes|models)\b",
    r"verfügbare (?:größen|farben|varianten)",
    r"(?:tallas|colores|tailles|couleurs|tamanhos|cores|taglie|colori) dispon",
    r"(?:dostupné|dostępne|доступные) (?:velikosti|barvy|rozmiary|kolory|размеры|цвета)",
)

#: An offer to be told when there is stock again; it says nothing of today's stock.
TOLD_LATER = _words(
    r"(?:e-?mail|notify|notification|alert|tell|remind|inform|let|text|contact|sms)\s?(?:to )?(?:me|us|you|alert)?\b[^.!?|]{0,50}",
    r"(?:benachrichtig|informier|erinner|bescheid)\w*[^.!?|]{0,50}",
    r"(?:pré?veni|alerte|avert|inform)\w*[- ](?:moi|nous|stock)[^.!?|]{0,50}",
    r"(?:av[ií]s[ae](?:me|rme|d)?|notif[ií]ca\w*|avvis(?:ami|atemi|o)|avise-me|notifica-me)\b[^.!?|]{0,50}",
    r"(?:powiadom|upozorn|hlídat|strážiť|sledovat dostupnost|értesít|anunță|obavijesti|obvesti|teavita|pranešti|paziņot)\w*[^.!?|]{0,50}",
    r"(?:сообщ|уведом|повідом|извест)\w*[^.!?|]{0,50}",
    r"(?:bevaka|meddela|giv besked|varsle|ilmoita|waarschuw|mail mij|houd mij)[^.!?|]{0,50}",
    r"(?:gelince|haber ver)[^.!?|]{0,50} | 到[货貨]通知 | 貨到通知 | 入荷(?:お知らせ|通知|連絡)[^。]{0,20}",
    r"再入荷[^。]{0,20}(?:通知|知らせ)[^。]{0,10}",
    r"재입고\s?알림[^.]{0,10} | أبلغني[^.]{0,50} | أعلمني[^.]{0,50} | הודיעו לי[^.]{0,50} | עדכנו אותי[^.]{0,50}",
    r"thông báo[^.]{0,30}",
    r"when (?:it(?:'s| is) |this (?:item|product) (?:is|becomes) |back |available |in )+[^.!?|]{0,40}",
    r"(?:wenn|sobald|quand|lorsque|cuando|quando|až|gdy|kiedy|когда|когато|amikor|când|når|när)\b[^.!?|]{0,50}",
)

_ALERT = (
    r"(?:e-?mail|notify|notification|alert|tell|remind|inform|let me know|text me|benachrichtig|erinner|bescheid|"
    r"informier|pré?ven|alerte|avert|"
    r"av[ií]s[ae]|avvis|notif[ií]ca|powiadom|upozorn|hlídat|strážiť|értesít|anunță|obavijesti|obvesti|teavita|"
    r"paziņot|сообщ|уведом|повідом|"
    r"bevaka|meddela|giv besked|varsle|ilmoita|waarschuw|haber ver)"
)
_STOCK_STEM = (
    r"(?:stock|availab|arriv|lager|verfügbar|lieferbar|disponib|dispon[ií]ve|skladem|skladom|naskladn|dostęp|"
    r"dostup|raktár|készlet|stoc|voorraad|"
    r"nalog|zalih|наличи|поступ|наявн|поставк|saatav|tillgäng|tilgæng|stokta|stoğa)"
)
#: A form or a button that promises to tell when there is stock.
STOCK_ALERT = re.compile(
    rf"{_ALERT}[^.!?|]{{0,50}}{_STOCK_STEM}|{_STOCK_STEM}[^.!?|]{{0,20}}{_ALERT}|到[货貨]通知|貨到通知|入荷(?:お知らせ|通知|連絡)|"
    rf"再入荷|재입고\s?알림",
    re.IGNORECASE,
)

DISCONTINUED = _words(
    r"discontinued | no longer (?:available|sold|made|produced) | end of life",
    r"nicht mehr (?:lieferbar|erhältlich|im sortiment)",
    r"plus (?:commercialisé|fabriqué) | fuera de catálogo | descatalogado | fuori (?:catalogo|produzione)",
    r"fora de linha",
    r"výroba ukončena | prodej ukončen | predaj ukončený | wycofan\w+ | снят\w* с (?:производства|продажи)",
    r"販売終了 | 生産終了",
    r"已下架 | 已停产 | 停售 | 단종 | utgått | udgået | poistunut | uit (?:het )?assortiment | megszűnt | produs retras",
)

OUT_OF_STOCK = _words(
    r"out[\s-]*of[\s-]*stock | \b(?:un|in)available | sold[\s-]*out | temporarily out | currently out",
    r"\bno stock\b | out of print",
    r"ausverkauft | vergriffen | derzeit nicht | momentan nicht | zurzeit nicht | (?:bereits )?verkauft\b",
    r"nicht mehr (?:verfügbar|auf lager|vorrätig)",
    r"rupture | épuisée?s? | indisponible | victime de son succès | plus en stock | plus disponible",
    r"agotad[oa]s? | sin (?:stock|existencias) | no hay (?:stock|existencias) | esgotad[oa]s?",
    r"indispon[ií]ve(?:l|is) | sem (?:estoque|stock) | fora de stock",
    r"esaurit[oiae] | terminat[oa] | uitverkocht",
    r"(?:tijdelijk|momenteel|niet meer) (?:niet|uit|op voorraad|leverbaar|beschikbaar) | uit voorraad",
    r"slutså?l[dt] | slut i lager | tillfälligt slut | udsolgt | utsolgt | loppuunmyyty | loppu(?:nut)?\b",
    r"tilapäisesti loppu",
    r"niedostępn | brak (?:w magazynie|towaru|na stanie) | wyprzedan | vyprodán | vypredan | nedostupn",
    r"nie je skladom | není skladem",
    r"elfogyott | nincs (?:raktáron|készleten|készlet) | nem (?:kapható|elérhető|rendelhető) | stoc epuizat",
    r"epuizat | indisponibil",
    r"нет (?:в наличии|на складе|в продаже) | распродан | закончил(?:ся|ась|ись) | отсутствует",
    r"немає в наявності | закінчи(?:вся|лась) | изчерпан | няма налич",
    r"εξαντλ | μη διαθέσιμο | stokta yok | stok yok | tükendi | tükenmiştir | mevcut değil | stokta kalmadı",
    r"売り?切れ | 在庫(?:な|無)し | 在庫切れ | 品切れ | 完売 | 欠品 | 在庫(?:は|が)?(?:ありません|ございません) | 入荷待ち | 取扱不可",
    r"售罄 | 售完 | 缺货 | 缺貨 | 无货 | 無貨 | 無庫存 | 无库存 | 暂无(?:库存|现货) | 已售完",
    r"补货 | 補貨 | 품절 | 매진 | 재고\s?(?:없음|없습니다|소진)",
    r"hết hàng | tạm hết | สินค้าหมด | หมดสต็?อก | \bhabis\b | stok kosong | אזל | לא במלאי | חסר במלאי",
    r"غير متوفر | غير متاح | نفد | نفذت | ناموجود | تمام شد",
    r"rasprodan | nema na (?:zalihi|stanju|skladištu) | ni na (?:zalogi|voljo) | razprodan | išparduot",
    r"nėra (?:sandėlyje|prekės) | läbimüü | otsas\b",
    r"nav (?:noliktavā|pieejam|uz vietas) | izpārdot | uppselt | स्टॉक में नहीं | স্টক শেষ | out-stock",
)

_STOCK = (
    r"(?:in stock|available|on hand|auf lager|am lager|an lager|verfügbar|lieferbar|vorrätig|erhältlich|en stock|"
    r"disponib(?:le|ili|ile|el)\w*|disponíve(?:l|is)|"
    r"op voorraad|leverbaar|beschikbaar|i lager|på lager|tilgængelig|tilgjengelig|tillgänglig|varastossa|"
    r"saatavilla|skladem|na skladě|skladom|na sklade|dostępn\w+|na stanie|"
    r"raktáron|készleten|elérhető|(?:în|in) stoc|disponibil|na zalihi|na zalogi|na voljo|dostupn\w+|в наличии|"
    r"в наявності|в наличност|доступ\w+|διαθέσιμ\w+|"
    r"sandėlyje|noliktavā|pieejam\w+|laos|saadaval|במלאי|זמין|متوفر|متاح|موجود)"
)
#: A word of denial up to three words before what it denies.
NEGATED = re.compile(
    r"\b(?:not?|none|never|isn[' ]?t|aren[' ]?t|no longer|nicht|kein\w*|nie|pas|non|ne|não|nao|sem|sin|niet|geen|"
    r"inte|ej|ikke|ei|není|nejsou|nincs|nem|nu|nije|nema|ni|nėra|nav|"
    rf"нет|не|немає|няма|δεν|לא|אין|غير|ليس|لا)(?:\s+(?:[^\W\d_]+\s+){{0,3}}?)(?<![,.;]){_STOCK}|"
    rf"{_STOCK}\s*[:=?]?\s*(?:\(\s*)?(?:nein|non|nie|нет|yok|değil|nem|なし|無|无|없음|✗|✘|×|(?<=[:=?] )(?:no|none|ne|"
    rf"ei|nej|nei|nee|not?)(?!\w))",
    re.IGNORECASE,
)
_PIECES = (
    r"(?:pcs?\.?|pieces?|items?|units?|stück|stk\.?|шт\.?|ks|szt\.?|db|tk|vnt\.?|gab\.?|left|x|個|件|点|개|"
    r"unidades|unités|pezzi|stuks?|st\.?|kpl)"
)
#: A count of nothing.
NONE_LEFT = re.compile(
    rf"(?<![\d.,])0\s*{_PIECES}?\s*(?:{_STOCK}|left\b|remaining|übrig|restant|restan|rimast|осталось|в наличии)|"
    rf"{_STOCK}\s*0\s*{_PIECES}(?!\w)|(?:{_STOCK}|\bstock|\bqty|quantity(?: available)?|availability|inventory|"
    rf"lagerbestand|bestand|verfügbarkeit|disponibilit\w+|disponibilidad\w*|existencias|estoque|voorraad|"
    r"lagersaldo|dostępność|dostupnost\w*|skladem|készlet|stoc|остаток|наличие|库存|庫存|在庫(?:数)?|"
    r"재고)\s*[:：=(\-–]\s*[>]?0\b(?![.,%]\d)|(?:残り|剩余|剩餘|仅剩|僅剩)\s?0\s?[個点件]?",
    re.IGNORECASE,
)
_SOON = (
    r"(?:soon|shortly|later|again soon|in kürze|bald|demnächst|bientôt|prochainement|pronto|próximamente|"
    r"presto|prossimamente|em breve|wkrótce|brzy|čoskoro|скоро|незабаром|hamarosan|în curând|binnenkort|snart|pian|"
    r"kmalu|uskoro|peagi|netrukus|drīzumā|yakında)"
)
#: Stock that is only promised.
LATER = re.compile(
    rf"(?:coming {_SOON}|{_STOCK}[^.!?|]{{0,20}}\b{_SOON}|\b{_SOON}\s(?:wieder |back |de nouveau |de nuevo |"
    rf"znovu |opět |ponovno |снова |в )?(?:in |en |auf |w )?(?:{_STOCK}|stock|sprzedaży|продаже)|"
    r"back in stock (?:soon|on|in \d|from)|back soon|(?:expected|due) (?:back )?in stock|awaiting (?:stock|delivery)|"
    r"more on the way|restock\w* (?:soon|expected|on)|"
    r"(?:wieder|erst) (?:verfügbar|lieferbar|auf lager) ab|(?:neu|nach)schub|de retour (?:bientôt|le|en stock)|"
    r"volverá|disponibile dal|de volta em|"
    r"近日入荷|次回入荷|入荷予定|即将到货|即將到貨|到货中|입고\s?예정|coming soon|próximamente|prossimamente|"
    r"demnächst (?:verfügbar|erhältlich))",
    re.IGNORECASE,
)

PRE_ORDER = _words(
    r"pre-?[\s-]?order | vorbestell | pré-?commande | reservar ahora | preventa | pré-venda | pre-?ordine",
    r"prenota | předobjedn | predobjedn",
    r"предзаказ | передзамовлення | przedsprzedaż | förhandsboka | forudbestil | forhåndsbestill | ennakkotilaa",
    r"előrendel | precomand | ön sipariş",
    r"予約(?:受付|商品|注文|販売) | ご予約 | 预订 | 預購 | 预售 | 預售 | 예약\s?(?:구매|판매) | đặt trước",
)
BACK_ORDER = _words(
    r"back-?[\s-]?order | nachbestell | nabestelling | on request | auf bestellung | sur commande | bajo pedido",
    r"su ordinazione | sob encomenda",
    r"na (?:zamówienie|objednávku|objednání) | под заказ | під замовлення | beställningsvara | bestillingsvare",
    r"tilaustuote | rendelésre | la comandă | お取り寄せ",
)
LIMITED = _words(
    r"limited (?:stock|availability|quantit) | low (?:in )?stock",
    r"\b(?:only|just|last) \d+ (?:left|in stock|available|remaining|pieces?|items?)",
    r"few left | almost (?:gone|sold out) | nur noch | wenige? (?:exemplare|stück|verfügbar) | geringer bestand",
    r"plus que \d+ | derniers? (?:articles?|exemplaires?|pièces?)",
    r"(?:sólo|solo|apenas) (?:quedan? )?\d+ | quedan? \d+ | últim[oa]s? (?:unidad|peça)",
    r"ultim[io] (?:pezz|disponib) | nog maar \d+ | laatste \d* ?stuks",
    r"poslední(?: kusy?|ch)? | posledn[éý] kus | ostatni(?:e|a) sztuk | mało w magazynie | мало | заканчивается",
    r"последн(?:ий|яя|ие) (?:шт|экз|размер)",
    r"utolsó \d* ?darab | ultim(?:ul|ele) (?:produs|bucăți) | få (?:kvar|igen|tilbage) | 残り(?:わずか|\d) | 残りあと",
    r"在庫わずか | 僅剩 | 仅剩 | 库存紧张 | 마지막",
)
IN_STOCK = _words(
    r"in[\s-]*stock | \bavailable | on hand | ready to ship | ships? (?:today|within|in) | auf lager",
    r"a[mn] lager | sofort lieferbar | \blieferbar | verfügbar(?:e[rsn]?)?\b",
    r"vorrätig | versandfertig | en stock | disponib(?:le|ili|ile)s?\b | disponíve(?:l|is)\b | en existencias",
    r"em estoque | disponibles? | disponibilità immediata | pronta consegna",
    r"op voorraad | leverbaar | i lager | på lager | finns i lager | varastossa | heti saatavilla",
    r"dostępn[yaei]\b | na stanie | w magazynie | od ręki",
    r"skladem | na sklad[ěe]\b | skladom | ihned k odeslání | raktáron | készleten | (?:în|in) stoc\b",
    r"disponibil\b | dostup[ae]?n[aoéý]?\b | na zalihi | na zalogi | na voljo\b",
    r"(?<!нет )в наличии | есть на складе | на складе | в наявності | в наличност | на склад | άμεσα διαθέσιμο",
    r"διαθέσιμ | stokta\b | stoklarda",
    r"在庫(?:あり|有り|有|◎|○) | 即納 | 有货 | 有貨 | 現貨 | 现货 | 库存充足 | 재고\s?(?:있음|있습니다) | còn hàng | มีสินค้า | พร้อมส่ง",
    r"tersedia | ready stock | במלאי | זמין",
    r"متوفر | متاح | موجود | yra sandėlyje | turime | \blaos\b | saadaval | noliktavā | pieejams | til á lager",
    r"á lager | उपलब्ध",
)
#: Of these no lack leaves any over: where they stand beside one, the text says both.
SURELY_IN_STOCK = _words(
    r"in[\s-]stock | auf lager | sofort lieferbar | en stock | em estoque | disponibile\b | op voorraad",
    r"i lager | på lager | varastossa",
    r"skladem | skladom | raktáron | (?:în|in) stoc\b | в наличии | 在庫あり | 有货 | 有貨 | 現貨 | 现货 | 재고\s?있음",
    r"na zalihi | na stanie | low stock",
)
BUY = _words(
    r"add to (?:cart|basket|bag) | buy (?:it )?now | in den warenkorb | ajouter au panier |"
    r" añadir al carrito"
)
