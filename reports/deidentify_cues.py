"""What stands around names of people in reports: labels, titles, letters after a name, verbs, and nouns of eponyms."""

from __future__ import annotations

import re

OTHER_SCRIPT = re.compile(
    r"[\u0400-\u052f\u0530-\u058f\u0590-\u05ff\u0600-\u06ff\u0900-\u0dff\u0e00-\u0e7f\u1000-\u109f\u10a0-\u10ff"
    r"\u1200-\u137f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+(?:[ ・·][\u0400-\u9fff\uac00-\ud7af]+)*"
)
LABEL = re.compile(
    r"(?:^|(?<=[\n.;|)\]])|(?<=\s))[ \t]{0,4}(?P<l>(?:patient(?:['’]s)?\s?name|pt\.?\s?name|patient|name|"
    r"first name|last name|surname|given name|"
    r"(?:ordering|referring|attending|requesting|consulting|primary care|admitting|interpreting|reading|dictating|"
    r"performing|responsible|supervising|operating|primary)\s(?:physician|provider|doctor|md|clinician|radiologist|"
    r"practitioner|surgeon|resident)s?(?:\sname)?|physicians?|provider|attending|resident|fellow|radiologist|"
    r"technologist|technician|tech|sonographer|nurse|surgeon|anesthesiologist|operator|assistant|author|"
    r"(?:electronically\s|digitally\s|e-?)?(?:signed|approved|verified|authenticated|finalized)(?:\sand\s\w{4,12})?"
    r"(?:\selectronically)?\sby|(?:dictated|transcribed|typed|reported|read|interpreted|reviewed|performed|prepared|"
    r"entered|edited|ordered|requested|created|released|witnessed)(?:\sand\s\w{4,12})?\sby|"
    r"transcriptionist|dictator|signature|signed(?:\selectronically)?|cc|c\.c\.|copy to|copies to|attn|"
    r"attention|to|from|pcp|"
    r"next of kin|emergency contact|guardian|parent|mother|father|spouse|contact|mr|re|befundet von|unterzeichnet|"
    r"arzt|patientin|zuweiser)"
    r"(?:\(s\))?)\s{0,2}(?P<c>[:=]|(?<=by)(?=\s))[ \t]{0,4}",
    re.IGNORECASE,
)
TITLE = re.compile(
    r"(?<![\w.'’-])(?P<t>(?:(?i:drs?)|(?i:doctors?)|(?i:prof)(?:essor)?|Mrs?|Ms|Miss|Mister|Mx|Herrn?|Frau|Mme|"
    r"Mlle|Sra?|Srta|Sig|"
    r"Dra|Rev|Fr|Capt|Lt|Col|Sgt|Maj|Hon|Sir|Dame|Lady|PD|Pfc|Cpt|Nurse|Sister|Attending|Resident|Technologist|"
    r"Radiologist|Surgeon|Intern|Physician|MTRA|mr|mrs|ms|nurse)(?:\.|(?=\s))(?:\s{0,2}(?:(?:Dr|Prof|med|phil|"
    r"habil|h\.c|dent)\b\.?)){0,3})\s{0,2}"
)
AFTER = re.compile(
    r"\s{0,2}(?:,\s{0,2})?(?P<c>M\.?D\b\.?|M\.?B\.?B\.?S\b|D\.O\.|DO(?=[\s,.;)]|$)|Ph\.?\s?D\b\.?|R\.?N\b\.?|"
    r"N\.?P\b\.?|P\.?A\.?-?C\b|"
    r"R\.?T\.?\s?\(R\)(?:\(\w+\))*|RT(?=[\s,.;)]|$)|RDMS|CNM|CRNA|DNP|FNP|APRN|LPN|MSN|BSN|FRCR|FACR|FRCS|FACS|"
    r"FRCP|MRCP|DDS|DMD|DPM|"
    r"MPH|MBChB|MSc|Esq|PharmD|CNMT|ARRT|III?\b|Jr\b\.?|Sr\b\.?)(?![\w-])"
)
STRONG_AFTER = re.compile(r"(?:M\.?D|M\.?B\.?B|D\.O|Ph|FRC|FAC|R\.?T\.?\s?\(|RDMS|APRN|CRNA|PharmD|MBChB)")
DOES = re.compile(
    r"\b(?:(?:discussed|reviewed|communicated|conveyed|relayed|spoke|speaking|spoken|correlated|seen|consulted|"
    r"shared|"
    r"confirmed|talked|coordinated|conferred|d/w|telephoned)\s(?:\w+\s){0,4}?(?:with|to|by)|"
    r"(?:called|reported|relayed|communicated|given|provided|paged|telephoned|faxed|sent|notified|informed|told|"
    r"handed|forwarded|referred|attributed|transmitted|addressed)\s(?:\w+\s){0,3}?(?:to|by)|"
    r"(?:notified|informed|paged|called|alerted|contacted|telephoned|told|asked|met|per|via)|"
    r"(?:obtained|received|sent|taken|given|requested)\sfrom|(?:follow-?up|appointment|visit)\swith|care\sof|"
    r"(?:reports?|results?|exam(?:ination)?|study|letter|request|order|appointment)\s(?:for|to)|"
    r"(?:dictated|signed|read|reviewed|interpreted|approved|verified|transcribed|ordered|requested|performed|"
    r"referred|placed|inserted|removed|obtained|supervised|acknowledged|received|accepted|recommended|accompanied|"
    r"brought\sin|followed|treated|examined|operated|prepared|attended|repeated|read\sback|confirmed|assisted|"
    r"supplied|administered|scanned|imaged|monitored|written|typed|entered|evaluated|managed|\w{2,20}ed)\sby|"
    r"(?:his|her|their|the\spatient['’]s|patient['’]s|pt['’]s|is|a|the)\s"
    r"(?:wife|husband|mother|father|son|daughter|brother|sister|aunt|uncle|niece|nephew|cousin|partner|spouse|friend|"
    r"grandmother|grandfather|grandson|granddaughter|guardian|caregiver|caretaker|neighbor|roommate|fianc[ée]e?|"
    r"boyfriend|girlfriend|employer|boss|teacher|coach|attorney|lawyer|stepfather|stepmother|twin)s?|"
    r"(?:wife|husband|mother|father|son|daughter|brother|sister|aunt|uncle|niece|nephew|cousin|partner|spouse)s?|"
    r"(?:patient|pt|named|name\sis|called|under|attending|physician|radiologist|resident|fellow|technologist|surgeon|"
    r"nurse|provider|clinician|sonographer|intern|oncologist|cardiologist|pulmonologist|neurologist|urologist|"
    r"internist|pediatrician|hospitalist|pathologist|orthopedist|practitioner|assistant|student))\b,?\s{1,2}$",
    re.IGNORECASE,
)
_AND = r"(?:['’]s)?[\s-]{1,2}(?:(?:and|or)\s)?"
OF_EPONYMS = (  # what stands after names of diseases, signs and devices, listed or not
    r"disease|syndrome|signs?|classification|types?|grades?|stages?|scores?|criteria|tumou?rs?|sarcomas?|"
    r"lymphomas?|catheters?|stents?|filters?|valves?|shunts?|procedures?|operation|ligament|triad|tetralogy|"
    r"law|phenomenon|reflex|test|maneuver|manoeuvre|method|index|thyroiditis|arteritis|granulomatosis|"
    r"o?esophagus|diverticul\w+|palsy|dystrophy|chorea|ataxia|encephalopathy|aphasia|virus|fever|gene|mutation|"
    r"equation|formula|scale|questionnaire|stain|agar|anomaly|malformation|deformity|deformation|dysplasia|"
    r"hernias?|cysts?|fractures?|pouch|needle|forceps|retractor|system|rods?|pins?|wires?|arthropathy|"
    r"nephropathy|antibody|protein|model"
)
OF_LISTED_EPONYMS = (  # what stands after the listed ones: "Baker cyst", but also after people, "the Smith lesion"
    r"lines?|nodes?|tubes?|drains?|repair|rings?|effect|position|views?|projection|angle|space|fossa|foramen|"
    r"duct|gland|canal|fascia|fold|point|plexus|artery|vein|muscle|tendon|nerve|body|bodies|cells?|lesions?|"
    r"contracture|anastomosis|nails?|plates?|units?|imaging|ultrasound|flow|waveforms?|society|guidelines?|"
    r"recommendations?|staging|atrophy|area|lobe|fissure|hump|opacity|opacities|nodules?|spots?|infection|"
    r"factor|dissection|balloon|bag|port|suture|clips?|lavage|circulation|crisis|curve|exam|scanner|category|"
    r"categories|complex|tubercul\w+"
)
AFTER_EPONYM = re.compile(rf"{_AND}(?:{OF_EPONYMS})(?![\w-])", re.IGNORECASE)
AFTER_LISTED_EPONYM = re.compile(rf"{_AND}(?:{OF_LISTED_EPONYMS})(?![\w-])", re.IGNORECASE)
NAMED_AFTER = re.compile(
    r"\b(?:circle|triangle|sphincter|ampulla|ligament|tetralogy|foramen|foramina|islets?|crypts?|canal|duct|"
    r"loop|vein|"
    r"great vein|signs?|disease|valves?|angle|lines?|bundle|pouch|nodes?|fold|fossa|trigone|artery|arc|arcade|space|"
    r"island|fissure|hiatus|sinus|recess|ring|membrane|plexus|ganglion|organ|bodies|corpuscles|"
    r"variant of)\sof\s(?:the\s)?$",
    re.IGNORECASE,
)
INITIALS_BY = re.compile(
    r"\b(?i:dictated|transcribed|typed|signed|entered|edited|read|reported|proofed|approved|verified)\s(?i:by)\s"
    r"(?P<v>[A-Z]{2,4})\b(?!\s?(?:scan|exam|protocol|team|service|staff))"
)
INITIALS_LABEL = re.compile(
    r"\b(?i:dictated|transcribed|typed|signed|initials?|transcriptions?|dictations?|transcriptionist|"
    r"tech(?:nologist)?|by|ds|dd|dt|td|tr)"
    r"\s?[:/]\s?(?P<v>[A-Za-z]{2,4}(?:\s?/\s?[A-Za-z]{2,4})?)(?![\w])(?=\s?(?:$|[\n,;.)|/]|\ue000|\d))"
)
SIGNATURE = re.compile(r"(?:^|\n)[ \t]{0,8}(?P<v>(?!XX)[A-Z]{2,4}[/:](?!XX)[A-Za-z]{2,4})(?=[ \t]?(?:$|\n|\ue000))")
INITIAL = re.compile(r"[A-Z]\.?")
PERSONAL = re.compile(  # what only people do or are
    r"\s(?:reviewed|called|states|stated|denies|denied|said|requested|came|complains|complained|fell|agreed|notified|"
    r"acknowledged|was\s(?:notified|informed|paged|called|contacted|told))\b"
    r"|,\s(?:his|her|their|the\spatient['’]s)\s(?:wife|husband|mother|father|son|daughter|brother|sister|partner|"
    r"spouse|friend|guardian|caregiver|neighbor|aunt|uncle|nephew|niece|grand\w+)\b"
)


SUBJECT = re.compile(r"\s?(?:[,.;]|\s(?:was|is|has|had|will|who|and)\b)")
CAMEL = re.compile(
    r"(?:Mc|Mac|De|Di|La|Le|O['’]|D['’]|Van|Fitz|Von|Du|St)[A-Z][^\W\d_]+(?:['’\-][^\W\d_]+)*|"
    r"[^\W\d_]+(?:['’\-][A-Z]?[^\W\d_]+)+"
)
